"""Limits to the size of a configuration: its files as YAML, and what its interpolations come to.

Both can double with every line: aliases (``b: [*a, *a]``) and interpolations (``b: ${a}${a}``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf.base import Container
from omegaconf.errors import InterpolationResolutionError

from lightning_nas.errors import ConfigError, shown

MOST_BYTES = 1_000_000
MOST_VALUES = 20_000
DEEPEST = 60
MOST_STEPS = 2_000
"""Interpolations evaluated while a configuration is resolved; those of the library need a few dozen."""

LARGEST = 1e12
"""No number of a configuration is larger, or smaller than its negative."""


def check_file(file: Path) -> None:
    """Refuse a YAML file that is too large, too deep, or has aliases that make it so; nothing is built of it.

    Raises:
        ConfigError: the file and the bound.
    """
    if not file.is_file() or file.stat().st_size > MOST_BYTES:
        raise ConfigError(f"{shown(file)}: not a file of at most {MOST_BYTES:,} bytes")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    anchors, open_nodes = dict[str, int](), list[tuple[str | None, int]]()
    total = 0  # values so far, those of aliases once more
    try:
        for event in yaml.parse(file.read_text(encoding="utf-8"), Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                total += anchors.get(event.anchor, 1)
            elif isinstance(event, yaml.ScalarEvent):
                total += 1
            elif isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, total))
                total += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, before = open_nodes.pop()
                if anchor:
                    anchors[anchor] = total - before
            if total > MOST_VALUES or len(open_nodes) > DEEPEST:
                raise ConfigError(f"{shown(file)}: more than {MOST_VALUES:,} values, or nested deeper than {DEEPEST}")
    except yaml.YAMLError as reason:
        if "nesting depth" in str(reason):
            raise ConfigError(f"{shown(file)}: nested deeper than {DEEPEST}") from None
        return  # Hydra says where
    except UnicodeDecodeError:
        return


class TooMuch(InterpolationResolutionError):
    """The interpolations of a configuration come to too much."""


@contextmanager
def bounded() -> Iterator[None]:
    """A context in which resolving a configuration ends after a bounded number of steps.

    Raises:
        TooMuch: more than ``MOST_STEPS`` interpolations were evaluated, or they came to more than ``MOST_BYTES``.
    """
    evaluate, steps, characters = Container.resolve_parse_tree, 0, 0

    def counted(self: Container, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps, characters
        steps += 1
        if steps > MOST_STEPS:
            raise TooMuch(f"interpolations double: more than {MOST_STEPS:,} steps")
        value = evaluate(self, *args, **kwargs)
        characters += len(value) if isinstance(value, str) else 0
        if characters > MOST_BYTES:
            raise TooMuch(f"interpolations come to more than {MOST_BYTES:,} characters")
        return value

    Container.resolve_parse_tree = counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        Container.resolve_parse_tree = evaluate  # type: ignore[method-assign]
