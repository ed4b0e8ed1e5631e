"""The options of an entry of the configuration as a table of text: key, default, the paper's value, range, meaning."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import zip_longest
from typing import Any

from lightning_nas.cli.config.signature import Signature, signature
from lightning_nas.cli.options import legal_values, meanings

WIDTH = 80
_NARROWEST = 8  # letters of a column
_OWN = ("_target_", "_partial_", "_recursive_", "_convert_")
# objects and settings that a run fills in
_OF_THE_RUN = (
    "self",
    "space",
    "task",
    "table",
    "engine",
    "child",
    "arch",
    "seed",
    "generator",
    "job",
    "worker",
    "target",
)


@dataclass(frozen=True)
class Row:
    """One option: its key, its default, another value to compare with, the legal values, and what it means."""

    key: str
    default: str
    other: str = ""
    legal: str = ""
    meaning: str = ""


def options(node: Mapping[str, Any], paper: Mapping[str, Any], prefix: str = "") -> Iterator[Row]:
    """The options of an entry of the configuration, and below each object those of the object.

    Args:
        node: the entry with ``_target_``.
        paper: the entry that the paper's experiment has in its place; empty for none.
        prefix: of the keys.
    """
    made = class_of(node)
    takes = signature(made) if made else Signature({}, open=True)
    said, legal = (meanings(made), legal_values(made, takes)) if made else ({}, {})
    if not prefix:
        unset = {key: argument.default for key, argument in takes.arguments.items() if not argument.required}
        node = {**{key: value for key, value in unset.items() if key not in _OF_THE_RUN}, **node}
    for key in dict.fromkeys([*node, *paper]):
        if key in _OWN:
            continue
        here, there = ((shown_value(entry[key]) if key in entry else "-") for entry in (node, paper))
        yield Row(prefix + key, here, there if paper else "", legal.get(key, ""), said.get(key, ""))
        if isinstance(node.get(key), Mapping):
            inside = paper.get(key)
            yield from options(node[key], inside if isinstance(inside, Mapping) else {}, f"{prefix}{key}.")


def shown_value(value: Any) -> str:
    """A value as the command line takes it; an object by the name of its class.

    >>> shown_value(None), shown_value([1, 2]), shown_value({"_target_": "torch.optim.SGD", "lr": 0.1})
    ('null', '[1, 2]', 'SGD')
    """
    if isinstance(value, Mapping):
        return str(value.get("_target_", "")).rpartition(".")[2] or "mapping"
    if isinstance(value, str):
        return value
    return json.dumps(value, default=lambda other: getattr(other, "__name__", type(other).__name__))


def table(rows: Sequence[Row], header: Row) -> Iterator[str]:
    """The rows in columns of at most ``WIDTH`` letters, what each option means below it; empty columns are left out."""
    cells = [astuple(row)[:4] for row in (header, *rows)]
    columns = [i for i in range(4) if any(row[i] for row in cells[1:])]
    widths = [max(len(row[i]) for row in cells) for i in columns]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH and max(widths[1:]) > _NARROWEST:
        widths[1 + widths[1:].index(max(widths[1:]))] -= 1
    for row, texts in zip((header, *rows), cells, strict=True):
        folded = [textwrap.wrap(texts[i], width) for i, width in zip(columns, widths, strict=True)]
        for line in zip_longest(*folded, fillvalue=""):
            yield "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        yield from textwrap.wrap(row.meaning, WIDTH - 4, initial_indent="    ", subsequent_indent="    ")


def class_of(node: Mapping[str, Any]) -> type | None:
    """The class of an entry, imported; None for an entry that is not one object, or that a function makes."""
    if "_target_" not in node:
        return None
    from hydra.utils import get_object

    made = get_object(node["_target_"])
    return made if isinstance(made, type) else None
