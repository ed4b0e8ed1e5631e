"""Task and latency table of a search that was given none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lightning_nas.errors import ConfigError
from lightning_nas.latency.measure import measure_space
from lightning_nas.latency.table import Conditions, LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.tasks.classification import Classification
from lightning_nas.tasks.language_modelling import LanguageModelling
from lightning_nas.tasks.segmentation import Segmentation

log = logging.getLogger(__name__)
_may_measure = ContextVar("_may_measure", default=True)


@contextmanager
def unmeasured() -> Iterator[None]:
    """Inside, :func:`measured_here` refuses: a run must be told to measure."""
    token = _may_measure.set(False)
    try:
        yield
    finally:
        _may_measure.reset(token)


def usual_task(space: SearchSpace) -> Task:
    """Classification of images; language modelling with the regularisation of DARTS for windows of words; segmentation.

    Segmentation is for spaces whose networks give classes of pixels.
    """
    if space.pixelwise:
        return Segmentation()
    return LanguageModelling(slowness=1e-3) if len(space.input_shape) == 1 else Classification()


def measured_here(space: SearchSpace) -> LatencyTable:
    """Milliseconds of each operation on the CPU of this machine, 0.03 seconds of measuring for each.

    Every measurement differs a little, so a search that must be repeated exactly is given a saved table.

    Raises:
        ConfigError: inside of :func:`unmeasured`.
    """
    if not _may_measure.get():
        raise ConfigError("this strategy needs a latency table: latency_table=measured, macs, params or file")
    log.info("measuring the operations of %s; pass table=... to repeat a search exactly", space.name)
    table = measure_space(space, Conditions(), progress=False)
    if table.steadiness is not None and not table.steadiness.steady:
        log.warning("the latency table of this search is %s", table.steadiness)
    return table
