"""Rules over the names and types of modules, which say what is searched."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

from annotated_types import Interval
from pydantic import BaseModel, PositiveInt, StrictBool, ValidationError, field_validator, model_validator
from torch import nn

from lightning_nas.errors import InputError, shown
from lightning_nas.spaces.builders import with_plain_layers
from lightning_nas.spaces.own.templates import Template

KEEP, SKIP = "keep", "skip"
RATIOS, DIVISOR = (0.5, 0.75, 1.0), 8
Ratio = Annotated[float, Interval(gt=0, le=1)]


class Widths(BaseModel, extra="forbid"):
    """Widths of a group of channels: ratios of the whole, rounded to multiples of a divisor."""

    ratios: list[Ratio] = list(RATIOS)
    divisor: PositiveInt = DIVISOR


class Written(BaseModel, extra="forbid"):
    """A rule as it is written in YAML; see :class:`Rule`."""

    match: str = "*"
    type: str | None = None
    width: Widths | StrictBool = False
    depth: StrictBool = False
    kernel: list[PositiveInt] | StrictBool = False
    resolution: Widths | list[PositiveInt | tuple[PositiveInt, PositiveInt]] | StrictBool = False
    choices: list[Any] | None = None
    frozen: StrictBool = False

    @field_validator("choices")
    @classmethod
    def _named(cls, told: list[Any] | None) -> list[Any] | None:
        return None if told is None else list(named_choices(told))

    @model_validator(mode="after")
    def _whole(self) -> Written:
        if self.resolution is not False and (self.match, self.type) != ("*", None):
            raise ValueError("resolution is that of the whole network, so its rule has no match and no type")
        return self


@dataclass(frozen=True)
class Rule:
    """A rule: what becomes elastic in the modules that it matches.

    Attributes:
        match: glob of module names, ``layer1.*.conv1``; ``*`` goes across dots.
        type: name of a class that the module must be of, such as Conv2d; any if None.
        width: (ratios, divisor) of the output channels, or None.
        depth: residual blocks may be left out.
        kernel: sizes of kernels, () for all odd sizes from 3; None for the module's own.
        resolution: sizes of the images, or ratios and divisor; None for the size of the example.
        choices: operations in the place of the module, by name: ``keep``, ``skip``, a module, what makes one, or a
            template of layers of torch.
        frozen: nothing of the module is searched, whatever other rules say.
    """

    match: str = "*"
    type: str | None = None
    width: tuple[tuple[float, ...], int] | None = None
    depth: bool = False
    kernel: tuple[int, ...] | None = None
    resolution: Widths | tuple[tuple[int, int], ...] | None = None
    choices: tuple[tuple[str, Any], ...] = ()
    frozen: bool = False

    def matches(self, path: str, module: nn.Module) -> bool:
        """Whether a module has the name and the type."""
        types = {base.__name__ for base in type(module).__mro__}
        return fnmatchcase(path, self.match) and (self.type is None or self.type in types)


EVERYTHING = (Rule(width=(RATIOS, DIVISOR), depth=True, kernel=()),)


def parse(written: Sequence[Any] | None, paths: Sequence[tuple[str, nn.Module]]) -> tuple[Rule, ...]:
    """Check rules as they are written; without rules everything is searched that can be.

    Raises:
        InputError: a rule has unknown keys or values, or matches nothing.
    """
    if written is None:
        return EVERYTHING
    rules = []
    for number, entry in enumerate(written, start=1):
        try:
            told = Written.model_validate(entry)
        except ValidationError as reason:
            # of the kinds of value that a key may have, the one that fits farthest
            first = max(reason.errors(include_url=False, include_context=False), key=lambda error: len(error["loc"]))
            keys = {*Written.model_fields, *Widths.model_fields}
            place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in keys) or "rule"
            said = f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"
            legal = ", ".join(Written.model_fields)
            came = shown(with_plain_layers(entry))
            raise InputError(f"rule {number}: got {came}; {said}; keys: {legal}") from None
        rule = _rule(told)
        if not any(rule.matches(path, module) for path, module in paths):
            near = ", ".join(path for path, _ in paths[1:4])
            raise InputError(
                f"rule {number} matches no module: match={rule.match!r}, type={rule.type!r}; names are like {near}"
            )
        rules.append(rule)
    return tuple(rules)


def _rule(told: Written) -> Rule:
    wanted = Widths() if told.width is True else told.width
    kernel, sizes = told.kernel, told.resolution
    resolution: Widths | tuple[tuple[int, int], ...] | None
    resolution = Widths() if sizes is True else sizes if isinstance(sizes, Widths) else None
    if isinstance(sizes, list):
        resolution = tuple((size, size) if isinstance(size, int) else size for size in sizes)
    return Rule(
        told.match,
        told.type,
        (tuple(sorted({*wanted.ratios, 1.0})), wanted.divisor) if isinstance(wanted, Widths) else None,
        told.depth,
        tuple(sorted(set(kernel))) if isinstance(kernel, list) else () if kernel else None,
        resolution,
        tuple(told.choices or ()),
        told.frozen,
    )


def named_choices(told: Sequence[Any]) -> tuple[tuple[str, Any], ...]:
    """Options of a rule by name: ``keep``, ``skip``, a module, a function of the module that it replaces, or layers.

    Raises:
        ValueError: what is wrong with them.
    """
    named = dict[str, Any]()
    for number, entry in enumerate(told, start=1):
        if isinstance(entry, dict) and len(entry) == 1 and "_target_" not in entry:
            [(name, make)] = entry.items()
            make = Template.of(make) or make
        elif entry in (KEEP, SKIP):
            name = make = entry
        elif (template := Template.of(entry)) is not None:
            name, make = template.name, template
        else:
            function = entry.func if isinstance(entry, functools.partial) else entry
            made = type(function) if isinstance(function, nn.Module) else function
            name, make = getattr(made, "__name__", "").lower(), entry
            name = name if re.fullmatch(r"\w+", name) else f"option_{number}"
        if not isinstance(make, (nn.Module, Template)) and not callable(make) and make not in (KEEP, SKIP):
            raise ValueError(
                f"option {number} is {shown(with_plain_layers(make))}; legal: keep, skip, a layer "
                "{_target_: torch.nn.Conv2d, kernel_size: 5} or several in a list, a module or a function that makes "
                "one from the module it replaces, or {name: one of these}"
            )
        if name in named:
            raise ValueError(f"two options are called {name}; name them: {{{name}: ...}}")
        named[name] = make
    if named.get(KEEP) != KEEP or len(named) < 2:
        raise ValueError("choices need keep, the module as it is, and another option")
    return tuple(named.items())


def widths(size: int, quantum: int, ratios: Sequence[float], divisor: int) -> tuple[int, ...]:
    """Widths of ``size`` channels, ascending, the last being ``size``.

    A width is a multiple of ``quantum`` and, where at least two such steps make up the size, of ``divisor``, which is
    halved until they do.

    >>> widths(64, 1, (0.5, 0.75, 1.0), 8), widths(12, 1, (0.5, 0.75, 1.0), 8), widths(32, 16, (0.3, 1.0), 8)
    ((32, 48, 64), (8, 12), (16, 32))
    """
    step = math.lcm(quantum, divisor)
    while step > quantum and (size % step or size < 2 * step):
        divisor //= 2
        step = math.lcm(quantum, max(divisor, 1))
    kept = {min(size, max(step, round(ratio * size / step) * step)) for ratio in ratios}
    return tuple(sorted({*kept, size}))
