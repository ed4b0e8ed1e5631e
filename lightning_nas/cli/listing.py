"""``lightning-nas list WHAT``: the names there are, a sentence each. Imports no torch."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from lightning_nas.cli.arguments import asks_for_help
from lightning_nas.cli.config.spelling import hint
from lightning_nas.cli.presets import names, summary
from lightning_nas.errors import ConfigError, shown

# what can be listed, and the group of the configuration it is
LISTS = {
    "strategies": "strategy",
    "spaces": "search_space",
    "datasets": "dataset",
    "tables": "latency_table",
    "engines": "engine",
    "tasks": "task",
    "experiments": "experiment",
}
ZOO = "zoo"
_NARROW, _WIDE = 60, 100


def main(arguments: Sequence[str]) -> None:
    """Print the list that was asked for.

    Raises:
        ConfigError: there is no such list.
    """
    legal = [*LISTS, ZOO]
    if asks_for_help(arguments):
        print(f"lightning-nas list WHAT\n\nWHAT is one of {', '.join(legal)}")
        return
    if not arguments:
        raise ConfigError(f"list needs one of: {', '.join(legal)}; e.g. lightning-nas list strategies")
    [what, *others] = arguments
    if others:
        raise ConfigError(f"list takes one name, got {len(arguments)}; legal: {', '.join(legal)}")
    if what not in legal:
        near = [name for name, group in LISTS.items() if group == what]
        raise ConfigError(f"{shown(what)}: there is no such list; {hint(near[0] if near else what, legal)}")
    rows = published() if what == ZOO else [(name, summary(LISTS[what], name)) for name in names(LISTS[what])]
    width = line_width()
    print(table(rows, width))
    if width is None:  # nothing but the list for whoever reads it from a pipe
        return
    if what == ZOO:
        print("\nbuild one in Python: lightning_nas.zoo.network(NAME); train one: architecture=NAME stages=[retrain]")
    else:
        group = LISTS[what]
        print(f"\nuse one: lightning-nas run {group}=NAME; more on one: lightning-nas explain {group}=NAME")


def published() -> list[tuple[str, str]]:
    """The name, the size and the source of each published network."""
    spec = importlib.util.find_spec("lightning_nas")  # the zoo itself imports torch
    assert spec is not None
    assert spec.origin is not None
    rows = []
    for file in sorted((Path(spec.origin).parent / "zoo").glob("*.json")):
        entry = json.loads(file.read_text(encoding="utf-8"))
        rows.append((file.stem, f"{size(entry['params'])}, {entry['classes']} classes: {entry['source']}"))
    return rows


def size(params: int) -> str:
    """A number of parameters, to two digits after the point.

    >>> size(5_483_032), size(950_000)
    ('5.48 M parameters', '0.95 M parameters')
    """
    return f"{params / 1e6:.2f} M parameters"


def line_width() -> int | None:
    """The width of the terminal, between limits; None if the output is not a terminal but a file or a pipe."""
    if not sys.stdout.isatty():
        return None
    return max(_NARROW, min(_WIDE, shutil.get_terminal_size().columns))


def table(rows: Sequence[tuple[str, str]], width: int | None) -> str:
    """Names in one column, texts in the other, wrapped to ``width``; None keeps each row on its line.

    >>> print(table([("a", "one two"), ("long", "three")], None))
    a     one two
    long  three
    """
    indent = max((len(name) for name, _ in rows), default=0) + 2
    lines = []
    for name, text in rows:
        line = f"{name:<{indent}}{text}".rstrip()
        folded = textwrap.wrap(line, width, subsequent_indent=" " * indent, break_on_hyphens=False) if width else [line]
        lines += folded
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
