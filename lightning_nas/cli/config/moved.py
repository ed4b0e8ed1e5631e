"""The present names of classes that have moved, so that a ``_target_`` in a user's YAML keeps working."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, read_write

from lightning_nas.errors import ConfigError
from lightning_nas.moved import present_name


def modernise(config: DictConfig) -> None:
    """Write present names over old ones in every ``_target_`` of a configuration, with one warning for each.

    Raises:
        ConfigError: the configuration is nested too deeply.
    """
    try:
        entries = list(_entries(config))
    except RecursionError:
        raise ConfigError("the configuration is nested too deeply") from None
    moved = {old: now for entry in entries if (now := present_name(old := entry["_target_"])) != old}
    for old, now in moved.items():
        warnings.warn(f"{old} is now {now}; change the _target_ by 0.3", FutureWarning, stacklevel=3)
    for entry in entries:
        if entry["_target_"] in moved:
            with read_write(entry):
                entry["_target_"] = moved[entry["_target_"]]


def _entries(node: DictConfig | ListConfig) -> Iterator[DictConfig]:
    """The mappings at any depth that have a ``_target_`` written out; no interpolation is resolved."""
    keys: Any = list(node) if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        value = node[key]
        if OmegaConf.is_config(value):
            yield from _entries(value)
        elif key == "_target_" and isinstance(value, str) and isinstance(node, DictConfig):
            yield node
