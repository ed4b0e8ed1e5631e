"""A configuration as this version reads it: present names of classes that have moved, and what goes without saying."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from lightning_nas.cli.config.models import complete_choices
from lightning_nas.cli.config.plain import join
from lightning_nas.errors import ConfigError
from lightning_nas.moved import present_name


def modernise(config: DictConfig) -> None:
    """Write present names over old ones in every ``_target_`` of a configuration, with one warning for each.

    ``calibration_batches`` is as ``score_batches`` where a search does not say it. Operations in the rules of a network
    of one's own become partials.

    Raises:
        ConfigError: the configuration is nested too deeply.
    """
    try:
        entries = dict(_entries(config))
    except RecursionError:
        raise ConfigError("the configuration is nested too deeply") from None
    moved = {old: now for entry in entries.values() if (now := present_name(old := entry["_target_"])) != old}
    for old, now in moved.items():
        warnings.warn(f"{old} is now {now}; change the _target_ by 0.3", FutureWarning, stacklevel=3)
    for entry in entries.values():
        if entry["_target_"] in moved:
            with read_write(entry):
                entry["_target_"] = moved[entry["_target_"]]
        if "score_batches" in entry and "calibration_batches" not in entry:  # earlier versions had one number for both
            with open_dict(entry), read_write(entry):
                entry.calibration_batches = entry.score_batches
                if entry["_target_"].endswith(".MdeNAS"):
                    entry.path_score_batches = entry.score_batches
    complete_choices(entries)


def _entries(node: DictConfig | ListConfig, place: str = "") -> Iterator[tuple[str, DictConfig]]:
    """The mappings at any depth that have a ``_target_`` written out, with their keys; nothing is resolved."""
    keys: Any = list(node) if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value = node[key]
        if OmegaConf.is_config(value):
            yield from _entries(value, join(place, key) if isinstance(node, DictConfig) else f"{place}[{key}]")
        elif key == "_target_" and isinstance(value, str) and isinstance(node, DictConfig):
            yield place, node
