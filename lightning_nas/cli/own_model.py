"""``lightning-nas explain search_space=from_model ...``: what a search can change in a network of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from lightning_nas.cli.build import fill_sizes, read_data
from lightning_nas.cli.config.check import check
from lightning_nas.cli.configuration import configured, one_line
from lightning_nas.errors import ConfigError, NasError, shown
from lightning_nas.latency.measure import measure
from lightning_nas.latency.table import Conditions
from lightning_nas.latency.torch_device import device_description
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.own.space import FromModel

_SIZES = ("image_size", "channels", "num_classes")


def explained(overrides: Sequence[str]) -> str:
    """The decisions in the network of ``search_space.model``, and the range of sizes; latencies are measured last.

    Args:
        overrides: those of a run.

    Raises:
        ConfigError: the overrides are wrong, or the space is not made of a network.
    """
    space, table = _made(overrides)
    if table is not None and getattr(table, "unit", "ms") == "ms":
        return f"{space.explain(table)}\nlatencies by the table"
    conditions = Conditions(min_run_time=0.02)

    def timed(network: nn.Module) -> float:
        return measure(network, space.input_shape, conditions=conditions, dtype=space.input_dtype).median_ms

    return f"{space.explain(timed)}\nlatencies measured on {conditions.on(device_description('cpu'))}"


def _made(overrides: Sequence[str]) -> tuple[FromModel, Mapping[str, float] | None]:
    """The space, and its latency table where the overrides name one."""
    config = configured(["paths.output=''", *overrides])
    check(config)
    try:
        if any(config.dataset.get(name) is None for name in _SIZES):
            fill_sizes(config, read_data(config, for_search=False))
            check(config)
        torch.set_num_threads(config.threads or torch.get_num_threads())
        space: SearchSpace = instantiate(config.search_space)
        if not isinstance(space, FromModel):
            raise ConfigError(f"search_space={space.name}: no network of yours; legal: search_space=from_model")
        named = any(text.startswith("latency_table") for text in overrides)
        source: Callable[[SearchSpace], Any] = instantiate(config.latency_table)
        return space, source(space) if named else None
    except InstantiationException as reason:
        if isinstance(reason.__cause__, NasError):
            raise reason.__cause__ from None
        raise ConfigError(shown(str(reason), 300)) from None
    except OmegaConfBaseException as reason:
        raise ConfigError(one_line(reason)) from None
