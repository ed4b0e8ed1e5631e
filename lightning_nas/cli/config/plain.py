"""A composed configuration as plain values, and a walk over them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_nas.cli.config.bounds import MOST_VALUES, bounded
from lightning_nas.errors import ConfigError, shown

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_KEY = re.compile(r"[\w/-]{1,60}", re.ASCII)
_OF_DATA = re.compile(r"Interpolation key 'dataset\.(\w+)' not found")
_FULL_KEY = re.compile(r"[\w.\[\]/-]{1,120}", re.ASCII)


def plain(config: DictConfig) -> tuple[dict[str, Any], set[str]]:
    """The configuration as dicts, lists and values, with every interpolation resolved.

    Returns:
        The content, and the full keys of interpolations that lead to null: sizes that the data set fills in later.

    Raises:
        ConfigError: an interpolation leads nowhere, a value is missing (``???``), the nesting is too deep, or
            there are too many values.
    """
    try:
        written = list(walk(OmegaConf.to_container(config, resolve=False)))
        _refuse_missing(written)
        with bounded():
            content = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as reason:
        key, first = _shown_key(str(reason.full_key or "configuration")), str(reason).splitlines()[0]
        raise ConfigError(f"{key}: {_of_other_data(key, first) or shown(first, 200)}") from None
    except RecursionError:
        raise ConfigError("the configuration is nested too deeply") from None
    if not isinstance(content, dict):
        raise ConfigError(f"the configuration must be a mapping, got a {type(content).__name__}")
    values = list(walk(content))
    if len(values) > MOST_VALUES:
        raise ConfigError(f"the configuration has {len(values):,} values; at most {MOST_VALUES:,}")
    _refuse_missing(values)
    for key, value in values:
        # a DictConfig made of this content would resolve it after the check
        if isinstance(value, str) and "${" in value:
            raise ConfigError(f"{key}: got {shown(value)}, an interpolation that is left after resolving")
    interpolated = {key for key, value in written if isinstance(value, str) and "${" in value}
    late = {key for key, value in values if value is None and key in interpolated}
    return {str(key): value for key, value in content.items()}, late


def _of_other_data(key: str, reason: str) -> str | None:
    """The error text where a search space for images meets text, or the reverse."""
    missing = _OF_DATA.fullmatch(reason)
    if missing is None or not key.startswith("search_space."):
        return None
    remedy = (
        "this search space is for text: give it dataset=text, or choose one for images"
        if missing[1] == "bptt"
        else "this search space is for images: "
        "text needs search_space=darts_rnn or darts_rnn_small, enas_rnn or enas_rnn_small, "
        "nas_rl_rnn or nas_rl_rnn_small, or from_model with a language model of yours"
    )
    return f"the data set has no dataset.{missing[1]}; {remedy}"


def trusted_modules(content: Mapping[str, Any]) -> list[str]:
    """The module prefixes in ``trusted_modules``.

    Raises:
        ConfigError: not a list of dotted names.
    """
    names = content.get("trusted_modules", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and _MODULE.fullmatch(name) for name in names):
        raise ConfigError(f"trusted_modules: got {shown(names)}; legal: a list of module names such as [my_package]")
    return names


def _refuse_missing(values: Iterable[tuple[str, Any]]) -> None:
    for key, value in values:
        if value == "???":
            raise ConfigError(f"{key} must be given, e.g. {key}=...")


def walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value at any depth with its full key, outer values first."""
    yield key, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from walk(item, join(key, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(item, f"{key}[{index}]")


def join(key: str, name: object) -> str:
    """The full key of ``name`` below ``key``, safe to print.

    >>> join("strategy", "alpha"), join("", "a b")
    ('strategy.alpha', "'a b'")
    """
    part = str(name) if _KEY.fullmatch(str(name)) else shown(name, 60)
    return f"{key}.{part}" if key else part


def _shown_key(key: str) -> str:
    return key if _FULL_KEY.fullmatch(key) else shown(key)
