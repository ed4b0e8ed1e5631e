"""Overrides of values that a configuration takes from elsewhere, as ``child.optimizer: ${retrain.optimizer}`` does."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_nas.cli.config.models import MODEL

_NODE = re.compile(r"\$\{(?P<key>[\w.]+)\}")


def apply_overrides(
    apply: Callable[[list[Any], DictConfig], None], overrides: Sequence[Any], config: DictConfig
) -> None:
    """Apply overrides, those below a node that stands for another one to a copy which the node then holds.

    What a node stands for is overridden before it is copied: ``retrain.optimizer.momentum=0.8 child.optimizer.lr=0.05``
    gives both to the optimiser of a child, in either order. A mapping changes the values that it names, as it does in
    other nodes; one with a ``_target_`` takes the node's place.

    Args:
        apply: Hydra's own function for overrides of values.
        overrides: Hydra's parsed overrides, each with its ``key_or_group``.
        config: changed in place.
    """
    if isinstance(model := _at(config, MODEL), DictConfig):
        OmegaConf.set_struct(model, False)  # arguments of any network
    below = [override for override in overrides if _steps(config, _place(override))]
    apply([override for override in overrides if override not in below], config)
    for override in sorted(below, key=lambda override: _steps(config, _place(override))):
        own(config, _place(override))
        apply([override], config)


def _place(override: Any) -> str:
    """The key of an override; for a mapping that changes some values of a node, a key below that node."""
    value = None if override.is_delete() else override.value()
    return f"{override.key_or_group}." if isinstance(value, dict) and "_target_" not in value else override.key_or_group


def own(config: DictConfig, key: str) -> None:
    """Give every node on the way to a key its own copy of what it stands for, so that the key can be changed there.

    >>> config = OmegaConf.create({"a": {"x": 1, "y": 2}, "b": {"c": "${a}"}})
    >>> own(config, "b.c.x")
    >>> config.b.c.x = 3
    >>> config.a.x, config.b.c.x, config.b.c.y
    (1, 3, 2)
    """
    for place in _borrowed(config, key):
        if isinstance(copied := _at(config, place), DictConfig | ListConfig):
            above, _, name = place.rpartition(".")
            parent = _at(config, above)
            parent[int(name) if isinstance(parent, ListConfig) else name] = deepcopy(copied)


def _borrowed(config: DictConfig, key: str) -> list[str]:
    """The nodes on the way to a key that stand for another node, outer ones first."""
    parts = key.split(".")
    return [place for i in range(1, len(parts)) if _written(config, place := ".".join(parts[:i]))]


def _steps(config: DictConfig, key: str) -> int:
    """How many nodes have to be followed to find what a key stands for."""
    return sum(1 + _followed(config, place) for place in _borrowed(config, key))


def _followed(config: DictConfig, place: str) -> int:
    """The nodes between a node that stands for another, by way of others, and the last of them."""
    seen = [place]
    while (named := _NODE.fullmatch(_written(config, seen[-1]))) and named["key"] not in seen:
        seen.append(named["key"])
    return len(seen)


def _written(config: DictConfig, place: str) -> str:
    """The interpolation that stands at a place; empty where a value does."""
    above, _, name = place.rpartition(".")
    if not isinstance(parent := _at(config, above), DictConfig | ListConfig):
        return ""
    content: Any = OmegaConf.to_container(parent, resolve=False)
    if isinstance(content, list):
        content = dict(zip(map(str, range(len(content))), content, strict=True))
    value = content.get(name) if isinstance(content, dict) else None
    return value if isinstance(value, str) and "${" in value else ""


def _at(config: DictConfig, place: str) -> Any:
    """The value at a place; None where there is none, of which Hydra says why."""
    try:
        return OmegaConf.select(config, place) if place else config
    except OmegaConfBaseException:
        return None
