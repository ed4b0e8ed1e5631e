"""Choices inside an ``nn.Module`` of one's own: one of several layers, one of several numbers, a number of blocks.

:class:`Layer` and :class:`Repeat` are modules, :class:`Value` is a number, so a module that holds them runs as it is,
as its largest network. :class:`~lightning_nas.spaces.own.space.FromModel` makes the module a search space. Choices with
one label are one decision.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lightning_nas.errors import InputError, shown
from lightning_nas.ops.counts import count_params

Taken = dict[Any, Tensor | None]
"""Options that run, each with its weight; None for the weight of an option that runs alone."""
Reader = Callable[[Any, tuple[Any, ...], dict[str, Any]], Tensor]


class Layer(nn.ModuleDict):
    """One of several modules with one form of input and output.

    Run on its own, it is the option with the most parameters; of several with as many, the last. Options share
    their input and must not change it in place.

    Args:
        options: modules by name, or in a row; these are named by their class: ``conv2d``, ``conv2d_2``.
        label: layers with one label take the option of one name; without a label the choice has the layer's own name.

    Raises:
        InputError: fewer than two options, a name that is no word, or an option that is no module.

    Example:
        >>> import lightning_nas as ln, torch
        >>> mixers = [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Identity()]
        >>> net = nn.Sequential(ln.choice.Layer(mixers, label="mixer"), nn.Flatten(), nn.Linear(64, 10))
        >>> tuple(net(torch.zeros(2, 4, 4, 4)).shape)
        (2, 10)
        >>> space = ln.FromModel(net, (1, 4, 4, 4))
        >>> [(decision.name, decision.options) for decision in space.decisions]
        [('mixer', ('identity', 'conv2d_2', 'conv2d'))]
        >>> space.extract(space.supernet(), space.smallest)[0]
        Layer(
          (identity): Identity()
        )
    """

    def __init__(self, options: Sequence[nn.Module] | Mapping[str, nn.Module], label: str | None = None) -> None:
        if not isinstance(options, (Mapping, list, tuple, nn.ModuleList)) or len(options) < 2:
            raise InputError(f"choice.Layer: got {shown(options)}; legal: two modules or more, in a row or by name")
        named: dict[Any, Any] = dict(options) if isinstance(options, Mapping) else _by_class(list(options))
        for name, option in named.items():
            if not isinstance(option, nn.Module):
                raise InputError(f"choice.Layer: option {shown(name)} is {shown(option)}; legal: a torch.nn.Module")
            if not isinstance(name, str) or not re.fullmatch(r"\w+", name) or hasattr(nn.ModuleDict, name):
                raise InputError(f"choice.Layer: an option cannot be named {shown(name)}; legal: a word like 'conv3'")
        super().__init__(named)
        self.label = _label(label)
        self.replaces = False  # a rule put it there, so extracted networks have the option itself
        self.taken: Taken | None = None
        self.reader: Reader | None = None

    @property
    def largest(self) -> str:
        """The option that runs where no choice is made."""
        return "keep" if self.replaces else max(reversed(list(self)), key=lambda name: count_params(self[name]))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run the chosen option, or the weighted sum of several."""
        if self.reader is not None:
            return self.reader(self, args, kwargs)
        taken = self.taken or {self.largest: None}
        return _sum((self[name](*args, **kwargs), weight) for name, weight in taken.items())


class Repeat(nn.ModuleList):
    """The first of several blocks, one after another; how many is a choice.

    Run on its own, it is all of them.

    Args:
        blocks: a function that makes the block of a number, from 0; or the blocks.
        depth: (least, most), and every number between is an option; or a :class:`Value`.
        label: repeats with one label have one depth; without a label the choice is ``NAME.depth``.

    Raises:
        InputError: a depth that is no range, or fewer blocks than the most.

    Example:
        >>> import lightning_nas as ln
        >>> blocks = ln.choice.Repeat(lambda number: nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (1, 3))
        >>> space = ln.FromModel(nn.Sequential(blocks, nn.Linear(4, 10)), (1, 4))
        >>> [(decision.name, decision.options) for decision in space.decisions]
        [('0.depth', ('1', '2', '3'))]
        >>> len(space.extract(space.supernet(), space.smallest)[0])
        1
    """

    def __init__(
        self,
        blocks: Callable[[int], nn.Module] | Sequence[nn.Module],
        depth: Any,
        label: str | None = None,
    ) -> None:
        if not isinstance(depth, Value):
            whole = isinstance(depth, (tuple, list)) and len(depth) == 2 and all(type(n) is int for n in depth)
            if not whole or not 0 <= depth[0] < depth[1]:
                raise InputError(f"choice.Repeat: depth is {shown(depth)}; legal: (least, most) with 0 <= least < most")
            depth = Value(range(depth[0], depth[1] + 1), label)
        elif label is not None:
            raise InputError(f"choice.Repeat: the label of a Value is its own; leave out label={shown(label)}")
        if not all(type(number) is int and number >= 0 for number in depth.numbers):
            raise InputError(f"choice.Repeat: depth has {shown(depth.numbers)}; legal: whole numbers from 0")
        most = max(depth.numbers)
        made = [blocks(number) for number in range(most)] if callable(blocks) else list(blocks)
        if len(made) != most or not all(isinstance(block, nn.Module) for block in made):
            raise InputError(f"choice.Repeat: got {len(made)} blocks for a depth of up to {most}; legal: {most} blocks")
        super().__init__(made)
        self.depth = depth
        self.depths = tuple(map(int, depth.numbers))
        self.taken: Taken | None = None
        self.reader: Reader | None = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the chosen number of blocks; further arguments go to each block."""
        if self.reader is not None:
            return self.reader(self, (x, *args), kwargs)
        taken = self.taken or {int(self.depth): None}
        return _sum((y, taken[number]) for number, y in self.steps(x, args, kwargs, max(taken)) if number in taken)

    def steps(self, x: Tensor, args: Any, kwargs: Any, depth: int) -> Iterable[tuple[int, Tensor]]:
        """The input and the output of each block, with the number of blocks that have run."""
        yield 0, x
        for number, block in enumerate(list(self)[:depth], start=1):
            x = block(x, *args, **kwargs)
            yield number, x


class Value:
    """One of several numbers: a width, the size of a kernel, the depth of a :class:`Repeat`.

    It is an ``int`` (or a ``float``), the largest of them, and goes wherever a module keeps a number as its attribute:
    ``nn.Linear(16, Value([16, 32]))``, ``nn.Conv2d(3, 8, Value([3, 5]))``. Sums, products and quotients with numbers
    are values of the same choice: ``padding=kernel // 2``. A plain number made of it, as by ``range(value)`` in a
    constructor, makes no choice. As the number of heads of an attention, ``nn.MultiheadAttention(64, Value([2, 4]))``,
    it leaves heads their size. An attribute that is no size, such as the share of a dropout, makes its module run
    otherwise; the output must have one shape.

    Args:
        numbers: two or more, all different.
        label: values with one label take the option of one place; without a label, the choice is that of this object,
            wherever it is used, and is named by the first place: ``NAME.width``, ``NAME.kernel``.

    Attributes:
        numbers: the number of each option, ascending for a value that was not computed.
        options: texts of the options.
        label: as given.

    Raises:
        InputError: not two different numbers.

    Example:
        >>> import lightning_nas as ln
        >>> hidden, kernel = ln.choice.Value([8, 16], label="hidden"), ln.choice.Value([3, 5])
        >>> conv = nn.Conv2d(3, hidden, kernel, padding=kernel // 2)
        >>> net = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(hidden * 16, 10))
        >>> space = ln.FromModel(net, (1, 3, 4, 4))
        >>> [(decision.name, decision.options) for decision in space.decisions]
        [('hidden', ('8', '16')), ('0.kernel', ('3', '5'))]
        >>> space.extract(space.supernet(), space.smallest)[0]
        Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """

    numbers: tuple[int | float, ...]
    options: tuple[str, ...]
    label: str | None
    choice: object

    def __new__(cls, numbers: Iterable[int | float], label: str | None = None) -> Any:
        told = tuple(numbers) if isinstance(numbers, Iterable) else ()
        if len(told) < 2 or len(set(told)) < len(told) or not all(type(number) in (int, float) for number in told):
            raise InputError(f"choice.Value: got {shown(numbers)}; legal: two different numbers or more")
        ascending = tuple(sorted(told))
        return _value(ascending, tuple(map(str, ascending)), _label(label), object())

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.numbers, self.options, self.label, self.choice

    def _computed(self, function: Callable[[Any, Any], Any], other: Any, turned: bool = False) -> Any:
        if isinstance(other, Value):
            if other.choice is not self.choice and function in (operator.floordiv, operator.truediv):
                return function(self.numbers[-1], other.numbers[-1])  # a share of each, such as the size of a head
            if other.choice is not self.choice:
                raise InputError("two values of choices of their own cannot be combined; make one from the other")
            pairs = list(zip(self.numbers, other.numbers, strict=True))
        elif isinstance(other, (int, float)):
            pairs = [(number, other) for number in self.numbers]
        else:
            return NotImplemented
        numbers = tuple(function(b, a) if turned else function(a, b) for a, b in pairs)
        return _value(numbers, self.options, self.label, self.choice)

    def __mul__(self, other: Any) -> Any:
        return self._computed(operator.mul, other)

    def __rmul__(self, other: Any) -> Any:
        return self._computed(operator.mul, other, turned=True)

    def __add__(self, other: Any) -> Any:
        return self._computed(operator.add, other)

    def __radd__(self, other: Any) -> Any:
        return self._computed(operator.add, other, turned=True)

    def __sub__(self, other: Any) -> Any:
        return self._computed(operator.sub, other)

    def __floordiv__(self, other: Any) -> Any:
        return self._computed(operator.floordiv, other)

    def __truediv__(self, other: Any) -> Any:
        return self._computed(operator.truediv, other)


def _new(cls: Any, numbers: tuple[Any, ...], options: tuple[str, ...], label: str | None, choice: object) -> Any:
    kind = int if issubclass(cls, int) else float
    made = kind.__new__(cls, numbers[-1])
    made.numbers, made.options, made.label, made.choice = numbers, options, label, choice
    return made


class _Whole(Value, int):
    __new__: Any = _new


class _Real(Value, float):
    __new__: Any = _new


def _value(numbers: tuple[Any, ...], options: tuple[str, ...], label: str | None, choice: object) -> Any:
    kind: Any = _Whole if all(isinstance(number, int) for number in numbers) else _Real
    return kind(numbers, options, label, choice)


def _label(label: str | None) -> str | None:
    if label is not None and (not isinstance(label, str) or not re.fullmatch(r"[\w.-]+", label)):
        raise InputError(f"choice: label is {shown(label)}; legal: a word such as 'hidden'")
    return label


def _by_class(options: Sequence[Any]) -> dict[str, Any]:
    named = dict[str, Any]()
    for option in options:
        base = name = type(option).__name__.lower()
        number = 1
        while name in named:
            number += 1
            name = f"{base}_{number}"
        named[name] = option
    return named


def _sum(outputs: Iterable[tuple[Tensor, Tensor | None]]) -> Tensor:
    total: Tensor | None = None
    for y, weight in outputs:
        part = y if weight is None else weight.to(y.dtype) * y
        total = part if total is None else total + part
    assert total is not None
    return total
