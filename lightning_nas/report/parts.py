"""The parts of a page as plain values, and the page as HTML by the templates beside this file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined

from lightning_nas.report.theme import COLORS

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Code:
    """Text in the shape of code, inside a line."""

    text: str
    kind: ClassVar = "code"


@dataclass(frozen=True)
class Mark:
    """A short label that stands out, such as "answer"."""

    text: str
    kind: ClassVar = "mark"


Cell: TypeAlias = str | Code | Sequence[str | Code | Mark]
"""Content of a table cell: text, code, or several of them in a row."""


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    content: Cell
    kind: ClassVar = "words"


@dataclass(frozen=True)
class Figure:
    """A picture as SVG (made by :func:`~lightning_nas.report.svg.to_svg`) and what it shows."""

    svg: str
    caption: str
    kind: ClassVar = "figure"


@dataclass(frozen=True)
class Pair:
    """Pictures side by side where there is room."""

    figures: Sequence[Figure]
    kind: ClassVar = "pair"


@dataclass(frozen=True)
class Facts:
    """A table of two columns: names and values."""

    rows: Sequence[tuple[str, Cell]]
    kind: ClassVar = "facts"


@dataclass(frozen=True)
class Table:
    """A table with a head; columns in ``numeric`` are aligned right, rows in ``marked`` are highlighted."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()
    kind: ClassVar = "table"


@dataclass(frozen=True)
class Block:
    """Lines of code or configuration, to be copied."""

    text: str
    kind: ClassVar = "block"


@dataclass(frozen=True)
class Folded:
    """Parts that are shown on a click."""

    summary: str
    parts: Sequence[Part]
    kind: ClassVar = "folded"


Part: TypeAlias = Words | Figure | Pair | Facts | Table | Block | Folded


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; without parts it is not shown but named as not recorded."""

    title: str
    parts: Sequence[Part] = field(default_factory=tuple)


@cache
def _templates() -> Environment:
    loader = PackageLoader("lightning_nas.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(title: str, lede: str, sections: Iterable[Section | None]) -> str:
    """The whole document: no script, nothing from outside, and a policy that allows neither.

    Sections without parts are named in the last line; None is left out.
    """
    there = [section for section in sections if section is not None]
    colors = [{name: pair[column] for name, pair in COLORS.items()} for column in (0, 1)]
    text: str = (
        _templates()
        .get_template("page.html")
        .render(
            title=title,
            lede=lede,
            sections=[section for section in there if section.parts],
            missing=[section.title for section in there if not section.parts],
            policy=POLICY,
            light=colors[0],
            dark=colors[1],
        )
    )
    return text


def value(content: Any, form: str = "{:,.0f}", unit: str = "") -> str | None:
    """A number as text for readers; other content as it is, None stays None.

    >>> value(1234567), value(0.978, "{:.1%}"), value(None)
    ('1,234,567', '97.8%', None)
    """
    if content is None:
        return None
    if isinstance(content, bool) or not isinstance(content, int | float):
        return str(content)
    return form.format(content) + unit


def known(rows: Iterable[tuple[str, Cell | None]]) -> Facts:
    """The facts that have a value."""
    return Facts([(name, cell) for name, cell in rows if cell is not None])
