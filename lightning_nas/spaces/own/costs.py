"""Cost of each function of a network: operations that replay the calls of a run at other sizes.

A function is one operation of the table for every combination of the options that decide its sizes, so the costs of a
network's functions add up to its multiply-adds and parameters. A function over a concatenation is counted part by part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.spaces.base import Operation, shape_text
from lightning_nas.spaces.own.axes import Axes, Axis
from lightning_nas.spaces.own.elastic import Element, Kernel, Sizes, Width, conditions, owner, shape_of, touches
from lightning_nas.spaces.own.nested import each, replaced
from lightning_nas.spaces.own.reading import LAYERS, Recorded, Slot
from lightning_nas.spaces.own.resizing import RESOLUTION
from lightning_nas.spaces.own.supernet import Form, adjusted

_PLACES = {"padding": 4, "groups": 6, "normalized_shape": 1, "num_groups": 1}


class Replay(nn.Module):
    """One call of a function on fresh tensors: its first computed tensor is the input, parameters are its own.

    Args:
        function: the function of torch.
        args: positional arguments with :class:`Made` for tensors.
        kwargs: arguments by name, likewise.
        text: the cost key.
    """

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any, text: str) -> None:
        super().__init__()
        self._function, self._args, self._kwargs, self._text = function, args, kwargs, text
        for made in each((args, kwargs), Made):
            if made.learned:
                self.register_parameter(made.name, nn.Parameter(torch.rand(made.shape)))
            elif not made.computed:
                self.register_buffer(made.name, _ones(made, made.shape))

    def extra_repr(self) -> str:
        return self._text

    def forward(self, x: Tensor) -> Any:
        def tensor(made: Made) -> Tensor:
            if not made.computed:
                found: Tensor = getattr(self, made.name)
                return found
            if made.first:
                return made.joined(x)
            return made.joined(_ones(made, (x.shape[0], *made.shape), x))

        return self._function(*replaced(self._args, Made, tensor), **replaced(self._kwargs, Made, tensor))


@dataclass(frozen=True)
class Made:
    """A tensor of a replayed call.

    Attributes:
        name: of the parameter or buffer in the replay.
        shape: of one example if computed, with ``parts`` in front where an example takes several places of the batch.
        dtype: of the tensor.
        learned: a parameter.
        computed: by the network, so that it has a batch.
        first: the input.
        batch: axis of the batch; None if the tensor is the same for all examples.
        parts: places of the batch that an example takes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    learned: bool
    computed: bool
    first: bool
    batch: int | None
    parts: int

    def joined(self, x: Tensor) -> Tensor:
        """The tensor of a batch (N, *shape) in the form that the function takes."""
        if self.batch is None:
            return x[0]
        return x.flatten(0, 1) if self.parts > 1 else x.movedim(0, self.batch)


def _ones(made: Made, shape: Sequence[int], like: Tensor | None = None) -> Tensor:
    if not made.dtype.is_floating_point:
        return torch.zeros(tuple(shape), dtype=made.dtype, device=None if like is None else like.device)
    if like is None:
        return torch.ones(tuple(shape), dtype=made.dtype)
    return torch.ones(tuple(shape), dtype=like.dtype if like.is_floating_point() else made.dtype, device=like.device)


@dataclass
class Unit:
    """A function, or a part of one, that a network may run.

    Attributes:
        call: the recorded call.
        elements: what changes its sizes.
        under: the options of decisions under which it runs, where not all of them do.
        counted: names of the parameters that are counted here and in no other unit.
        left: the only parameter of a unit that runs nothing.
    """

    call: Recorded | None
    elements: tuple[Element, ...]
    under: dict[str, tuple[str, ...]]
    counted: frozenset[str] = frozenset()
    left: Slot | None = None
    axes: dict[int, Axes] = field(default_factory=dict)

    @property
    def decides(self) -> dict[str, tuple[str, ...]]:
        """All decisions that its cost depends on, with the options under which it runs."""
        return {element.name: element.options for element in self.elements} | self.under

    def options(self) -> Iterator[tuple[str, ...]]:
        """Every combination of the options under which it runs."""
        return itertools.product(*self.decides.values())

    def operation(self, sizes: Sizes) -> tuple[str, Operation]:
        """Its cost key and operation in a network of some sizes."""
        if self.left is not None:
            shape = shape_of(self.left.shape, self.left.axes, sizes, self.left.name)
            return f"parameter {shape_text(shape)}", Operation(_Held(shape), (1,))
        assert self.call is not None
        numbers = itertools.count()
        first = [True]

        def make(slot: Slot) -> Made:
            return _sized(slot, sizes, self, f"tensor_{next(numbers)}", first)

        args = list(replaced(self.call.args, Slot, make))
        kwargs = replaced(self.call.kwargs, Slot, make)
        for name, value in self._arguments(sizes):
            if name not in kwargs and len(args) > _PLACES[name]:
                args[_PLACES[name]] = value
            else:
                kwargs[name] = value
        inputs = [made for made in each((args, kwargs), Made) if made.first]
        shape = inputs[0].shape if inputs else (1,)
        dtype = inputs[0].dtype if inputs else torch.float32
        text = _text(self.call.name, args, kwargs)
        if any(slot.learned and slot.name not in self.counted for slot in self.call.slots):
            text += " shared"  # its weight is counted where it is used first
        if self.call.name in LAYERS and (
            made := [n for n, slot in enumerate(self.call.slots[1:]) if slot.name is None]
        ):
            text += f" computed {shape_text(made)}"  # its weight is what another function makes
        return text, Operation(_Replays(self.call.function, tuple(args), kwargs, text), shape, dtype)

    def _arguments(self, sizes: Sizes) -> Iterator[tuple[str, Any]]:
        """The arguments of the call that follow the sizes."""
        assert self.call is not None
        for name, told in self.call.adjusted.items():
            if name in _PLACES:
                yield name, adjusted(name, told, sizes)
        for element in self.elements:
            if isinstance(element, Kernel) and element.padding is not None:
                yield "padding", element.padded(sizes.kernels.get(element.weight, element.size))


@dataclass(frozen=True)
class _Replays:
    """Makes a replay."""

    function: Any
    args: Any
    kwargs: Any
    text: str

    def __call__(self) -> nn.Module:
        return Replay(self.function, self.args, self.kwargs, self.text)


@dataclass(frozen=True)
class _Held:
    """Makes a module that holds one parameter and returns its input."""

    shape: tuple[int, ...]

    def __call__(self) -> nn.Module:
        module = nn.Identity()
        module.register_parameter("held", nn.Parameter(torch.zeros(self.shape)))
        return module


def _sized(slot: Slot, sizes: Sizes, unit: Unit, name: str, first: list[bool]) -> Made:
    assert unit.call is not None
    axes = unit.axes.get(id(slot), slot.axes)
    shape = shape_of([_full(size, axis) for size, axis in zip(slot.shape, axes, strict=True)], axes, sizes, slot.name)
    if slot.name is not None:
        return Made(name, shape, slot.dtype, slot.learned and slot.name in unit.counted, False, False, None, 1)
    is_first, first[0] = first[0], False
    batch, parts = _batch(slot.shape, unit.call.batch)
    if batch is None:
        return Made(name, shape, slot.dtype, False, True, is_first, None, 1)
    rest = (*shape[:batch], *shape[batch + 1 :])
    return Made(name, (parts, *rest) if parts > 1 else rest, slot.dtype, False, True, is_first, batch, parts)


def _full(size: int, axis: Axis) -> int:
    return size if axis is None else sum(part.length for part in axis)


def _batch(shape: Sequence[int], batch: int) -> tuple[int | None, int]:
    """Axis of the batch, and how many places of it an example takes."""
    if shape and shape[0] and shape[0] % batch == 0:
        return 0, shape[0] // batch
    return (list(shape).index(batch), 1) if batch in shape else (None, 1)


def _text(name: str, args: Any, kwargs: Any) -> str:
    words = [name]

    def say(value: Any) -> None:
        if isinstance(value, Made):
            words.append(shape_text(value.shape) if value.shape else "scalar")
        elif isinstance(value, dict):
            for key, entry in value.items():
                words.append(f"{key}=")
                say(entry)
        elif isinstance(value, (tuple, list)) and any(True for _ in each(value, Made)):
            for entry in value:
                say(entry)
        elif isinstance(value, (bool, int, float, str, tuple, list, torch.dtype)) or value is None:
            words.append(str(value).replace(" ", ""))
        else:
            words.append(type(value).__name__)

    say(list(args))
    say(kwargs)
    return " ".join(words)


def units(form: Form, parameters: Mapping[str, Tensor]) -> list[Unit]:
    """The units of a module: one a function or part of one, and one for each parameter that none of them has."""
    found: list[Unit] = []
    counted: dict[str, set[tuple[str, ...]]] = {}  # resolutions at which a function counts a parameter
    for call in form.reading.calls:
        for piece, axes in _pieces(call, form, {}):
            slots = piece.slots
            new = {slot.name for slot in slots if slot.learned and slot.name is not None}
            under = conditions(form.elements, piece.module) | piece.under
            own, size = {n: o for n, o in under.items() if n != RESOLUTION}, under.get(RESOLUTION, ())
            new = {name for name in new if conditions(form.elements, owner(name)) == own}  # always when it exists
            new = {name for name in new if size not in counted.get(name, ()) or _is_part(piece, axes)}
            for name in new:
                counted.setdefault(name, set()).add(size)
            touched = [(slot.name, axes.get(id(slot), slot.axes)) for slot in slots]
            found.append(Unit(piece, _changing(form, touched), under, frozenset(new), axes=axes))
    sizes = len(form.decisions.get(RESOLUTION, ("",)))
    always = {name for name, seen in counted.items() if len(seen) == sizes}
    for unit in found:
        unit.counted &= always
    for name, tensor in parameters.items():
        if name not in always:
            slot = Slot(tuple(tensor.shape), tensor.dtype, form.reading.axes[name], name, True)
            elements = _changing(form, [(name, slot.axes)])
            found.append(Unit(None, elements, conditions(form.elements, owner(name)), frozenset([name]), left=slot))
    return found


def _is_part(piece: Recorded, axes: Mapping[int, Axes]) -> bool:
    """Whether the piece is a later part of a call, each of which has a part of the same parameters."""
    return any(id(slot) in axes for slot in piece.slots if slot.learned)


def _changing(form: Form, touched: Sequence[tuple[str | None, Axes]]) -> tuple[Element, ...]:
    """The elements that change the sizes of some tensors."""
    groups = {group for _, axes in touched for axis in axes for group in touches(axis, form.widths)}
    names = {name for name, _ in touched}
    return tuple(
        element
        for element in form.elements
        if (isinstance(element, Width) and element.channels in groups)
        or (isinstance(element, Kernel) and element.weight in names)
    )


def _pieces(call: Recorded, form: Form, axes: dict[int, Axes]) -> Iterator[tuple[Recorded, dict[int, Axes]]]:
    """A call, or its parts along an axis that several elastic groups make up."""
    if call.name in ("cat", "concat", "concatenate") and len(call.slots) > 1:
        for slot in call.slots:
            yield from _pieces(replace(call, args=([slot], *call.args[1:])), form, axes)
        return
    several = (
        axis for slot in call.slots for axis in axes.get(id(slot), slot.axes) if len(touches(axis, form.widths)) > 1
    )
    parts = next(several, None)
    if parts is None:
        yield call, axes
        return
    for number in range(len(parts)):
        mine = dict(axes)
        for slot in call.slots:
            known = axes.get(id(slot), slot.axes)
            if any(axis is not None and _alike(axis, parts) for axis in known):
                mine[id(slot)] = [(a[number],) if a is not None and _alike(a, parts) else a for a in known]
        told = {n: ((a[number],) if _alike(a, parts) else a, each) for n, (a, each) in call.adjusted.items()}
        args, kwargs = call.args, call.kwargs
        if number:
            args, kwargs = (replaced(given, Slot, partial(_without, mine)) for given in (args, kwargs))
        yield from _pieces(replace(call, args=args, kwargs=kwargs, adjusted=told), form, mine)


def _alike(axis: Axis, parts: Axis) -> bool:
    """Whether two axes have the same channels part by part."""
    left, right = ([(p.channels.root, p.times) for p in a or ()] for a in (axis, parts))
    return [root for root, _ in left] == [root for root, _ in right]


def _without(axes: Mapping[int, Axes], slot: Slot) -> Slot | None:
    """An argument; none for parameters that have no part, such as the bias: the first part has them."""
    return None if slot.learned and id(slot) not in axes else slot
