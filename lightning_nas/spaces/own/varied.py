"""Modules with attributes that are a choice, such as the share of a dropout: they run once for each option."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from lightning_nas.choice import Reader, Taken


@dataclass(frozen=True, eq=False)
class Setting:
    """An attribute of a module that follows a decision.

    Attributes:
        name: of the decision.
        options: of the decision.
        path: of the module.
        attribute: its name.
        values: of the attribute, for each option.
    """

    name: str
    options: tuple[str, ...]
    path: str
    attribute: str
    values: tuple[Any, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules that it changes."""
        return (self.path,)


class Varied(nn.Module):
    """A module that runs under one option of each of its decisions, or is the weighted sum over several.

    It comes before the module's own class, so that parameters keep their names.

    Attributes:
        settings: attributes by decision.
        taken: options that run by decision, each with its weight; None for the attributes as they are.
        reader: called instead while the module is read.
    """

    settings: dict[str, list[Setting]]
    taken: dict[str, Taken] | None
    reader: Reader | None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the module's own."""
        if self.reader is not None:
            return self.reader(self, args, kwargs)
        if self.taken is None:
            return super().forward(*args, **kwargs)
        total: Any = None
        for rows in itertools.product(*(taken.items() for taken in self.taken.values())):
            self.set(dict(zip(self.taken, (number for number, _ in rows), strict=True)))
            y = super().forward(*args, **kwargs)
            for _, weight in rows:
                y = y if weight is None else weight.to(y.dtype) * y
            total = y if total is None else total + y
        return total

    def combinations(self) -> Iterator[dict[str, str]]:
        """Every combination of options, that of the largest numbers last."""
        for options in itertools.product(*(one[0].options for one in self.settings.values())):
            yield dict(zip(self.settings, options, strict=True))

    def run(self, chosen: Mapping[str, str], *args: Any, **kwargs: Any) -> Any:
        """What the module returns under some options."""
        self.set({name: self.settings[name][0].options.index(option) for name, option in chosen.items()})
        return super().forward(*args, **kwargs)

    def set(self, chosen: dict[str, int]) -> None:
        """Set the attributes to those of some options."""
        for name, number in chosen.items():
            for setting in self.settings[name]:
                setattr(self, setting.attribute, setting.values[number])


@functools.cache
def _varied(kind: Any) -> Any:
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "own": kind}
    return type(kind.__name__, (Varied, kind), names)


def vary(network: nn.Module, settings: Sequence[Setting]) -> None:
    """Let modules run under each option of some settings; the network is changed."""
    for setting in settings:
        module = network.get_submodule(setting.path)
        if not isinstance(module, Varied):
            own: Any = type(module)
            module.__class__ = _varied(own)
            vars(module).update(settings={}, taken=None, reader=None)
        assert isinstance(module, Varied)
        module.settings.setdefault(setting.name, []).append(setting)


def unvary(network: nn.Module) -> None:
    """Give modules their own class again; the network is changed."""
    for module in network.modules():
        if isinstance(module, Varied):
            module.__class__ = type(module).own  # type: ignore[attr-defined]
            for name in ("settings", "taken", "reader"):
                del vars(module)[name]
