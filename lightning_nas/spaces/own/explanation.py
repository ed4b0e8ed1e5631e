"""Explanation of a module's search space: its decisions, what is coupled, and what stays whole and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_nas.spaces.own.elastic import Element

SIZES = ("smallest", "middle", "largest")
"""Networks of a space that have names."""

Three = tuple[float, float, float]
"""Figures of the smallest, the middle and the largest network."""


@dataclass(frozen=True)
class Explanation:
    """The changes that a search can make in a module; printed, it is a text.

    Attributes:
        decisions: (name, options, modules that change with it) of each decision.
        fixed: (what, why) of everything that stays whole.
        parameters: numbers of parameters of the smallest, the middle and the largest network.
        macs: their multiply-adds for one example.
        milliseconds: their latencies; None if they were not asked for.
    """

    decisions: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
    fixed: tuple[tuple[str, str], ...]
    parameters: Three
    macs: Three
    milliseconds: Three | None = None

    def __str__(self) -> str:
        lines = [f"decisions: {len(self.decisions)}"]
        for name, options, members in self.decisions:
            lines.append(f"  {name}: {' | '.join(options)}" + (f"; with {', '.join(members)}" if members else ""))
        lines.append("stays whole:" if self.fixed else "nothing stays whole")
        lines += [f"  {what}: {why}" for what, why in self.fixed]
        lines.append(_line("", SIZES))
        lines.append(_line("parameters", [f"{count:,}" for count in self.parameters]))
        lines.append(_line("MACs", [f"{count:,}" for count in self.macs]))
        if self.milliseconds is not None:
            lines.append(_line("milliseconds", [f"{time:.3f}" for time in self.milliseconds]))
        return "\n".join(lines)


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<12}" + "".join(f"{cell:>18}" for cell in cells)


def explained(
    elements: Sequence[Element],
    fixed: Sequence[tuple[str, str]],
    parameters: Three,
    macs: Three,
    milliseconds: Three | None,
) -> Explanation:
    """The explanation of some decisions."""
    names = {element.name: element.options for element in elements}
    paths = {name: [path for e in elements if e.name == name for path in e.paths] for name in names}
    rows = tuple((name, options, tuple(dict.fromkeys(paths[name]))[1:]) for name, options in names.items())
    return Explanation(rows, tuple(fixed), parameters, macs, milliseconds)
