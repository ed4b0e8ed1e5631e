"""Task and latency table of a search that was given none."""

from __future__ import annotations

import logging

from lightning_nas.latency.measure import measure_space
from lightning_nas.latency.table import Conditions, LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.tasks.classification import Classification
from lightning_nas.tasks.language_modelling import LanguageModelling

log = logging.getLogger(__name__)


def usual_task(space: SearchSpace) -> Task:
    """Classification of images; language modelling with the regularisation of DARTS for windows of words."""
    return LanguageModelling(slowness=1e-3) if len(space.input_shape) == 1 else Classification()


def measured_here(space: SearchSpace) -> LatencyTable:
    """Milliseconds of each operation on the CPU of this machine, 0.03 seconds of measuring for each.

    Every measurement differs a little, so a search that must be repeated exactly is given a saved table.
    """
    log.info("measuring the operations of %s; pass table=... to repeat a search exactly", space.name)
    return measure_space(space, Conditions(), progress=False)
