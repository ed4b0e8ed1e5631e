"""Channels followed through the functions of torch: one rule a function.

A rule gets the call of a function and the axes of its tensors, joins the channels that must stay equal, and returns
the axes of the result. A function that has no rule keeps all channels that it reads, and the explanation names it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from lightning_nas.spaces.own.axes import Axes, Axis, Channels, Part, divided, fix, meet, use
from lightning_nas.spaces.own.nested import each

Shape = tuple[int, ...]


@dataclass
class Call:
    """One call of a function of torch, as a rule sees it.

    Attributes:
        name: of the function, without underscores at its ends.
        args: positional arguments.
        kwargs: arguments by name.
        out: the tensors of the result.
        where: name of the function and the module, for explanations.
        axes: gives the axes of a tensor; a rule may change the list.
        own: whether an attribute of the module that runs has a value, so that a narrower network can change it.
        sizes: names of the attributes of the module that runs, if it is a person's own, that are a number.
        read: gives the last axis of what the module that runs was given.
        adjusted: attributes that depend on widths: (axis, places for each unit).
        likely: attributes that seem to depend on widths, since they have the number that the function was given.
        reads: axes of parameters that the function sums over.
        paired: heads that were found, and the channels that their module was given.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: tuple[Tensor, ...]
    where: str
    axes: Callable[[Tensor], Axes]
    own: Callable[[str, Any], bool]
    sizes: Callable[[int], list[str]]
    read: Callable[[], Axis]
    adjusted: dict[str, tuple[tuple[Part, ...], int]] = field(default_factory=dict)
    likely: dict[str, tuple[tuple[Part, ...], int]] = field(default_factory=dict)
    reads: list[tuple[Tensor, int]] = field(default_factory=list)
    paired: list[tuple[Channels, tuple[Part, ...]]] = field(default_factory=list)

    def get(self, place: int, name: str, default: Any = None) -> Any:
        """An argument, by place or by name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    @property
    def tensors(self) -> Iterator[Tensor]:
        """All tensors among the arguments."""
        return each((self.args, self.kwargs), Tensor)

    def whole(self, *axes: Axis, why: str = "") -> None:
        """Keep all channels of some axes because of this call."""
        fix(axes, f"{self.where} {why or 'reads them in a way that has no rule'}")


Rule = Callable[[Call], list[Axes]]


def unknown(call: Call) -> list[Axes]:
    """Keep every channel of every argument."""
    for tensor in call.tensors:
        call.whole(*call.axes(tensor))
    return [[None] * tensor.dim() for tensor in call.out]


def convolution(call: Call) -> list[Axes]:
    """Sum over the input channels; each group of a grouped convolution is kept or dropped as a whole."""
    x, weight, bias = call.args[0], call.args[1], call.get(2, "bias")
    turned = call.name.startswith("conv_transpose")
    groups = call.get(7 if turned and len(call.args) > 7 else 6, "groups", 1)
    axes, w = list(call.axes(x)), call.axes(weight)
    place = 1 if x.dim() == weight.dim() else 0
    reads, makes = (0, 1) if turned else (1, 0)
    if groups == 1:
        meet(w, reads, axes, place, f"{call.where} reads a fixed input")
        call.reads.append((weight, reads))
    elif turned or not _grouped(call, axes[place], w, x.shape[place] // groups, weight.shape[0] // groups):
        call.whole(axes[place], w[0], why="has groups that do not fit the channels")
    _with_bias(call, bias, w, makes)
    made: Axes = [None] * x.dim()
    made[place] = use(w[makes])
    return [made]


def _grouped(call: Call, axis: Axis, w: Axes, taken: int, made: int) -> bool:
    """Make the output channels of a grouped convolution those of its input; False if that cannot be."""
    groups = call.get(6, "groups")
    if axis is None or any(part.length % taken for part in axis) or not call.own("groups", groups):
        return False
    own: Axes = [tuple(Part(part.channels, part.times * Fraction(made, taken)) for part in axis)]
    _whole_groups(axis, taken)
    meet(w, 0, own, 0, f"{call.where} has groups")
    call.adjusted["groups"] = (axis, taken)
    return True


def _whole_groups(axis: tuple[Part, ...], each: int) -> None:
    """Only keep widths that are whole groups of ``each`` places."""
    for part in axis:
        root = part.channels.root
        root.quantum = math.lcm(root.quantum, (Fraction(each) / part.times).numerator)


def linear(call: Call) -> list[Axes]:
    """Sum over the last axis."""
    x, weight = call.args[0], call.args[1]
    axes, w = list(call.axes(x)), call.axes(weight)
    meet(w, 1, axes, -1, f"{call.where} reads a fixed input")
    call.reads.append((weight, 1))
    _with_bias(call, call.get(2, "bias"), w, 0)
    return [[*axes[:-1], use(w[0])]]


def _with_bias(call: Call, bias: Tensor | None, w: Axes, makes: int) -> None:
    if bias is not None:
        meet(call.axes(bias), 0, w, makes, f"{call.where} has a bias of fixed size")


def channel_norm(call: Call) -> list[Axes]:
    """Normalise each channel (axis 1) by itself."""
    axes = list(call.axes(call.args[0]))
    for tensor in call.tensors:
        if tensor is not call.args[0]:
            meet(call.axes(tensor), 0, axes, 1, f"{call.where} has a fixed width")
    if (axis := axes[1]) is not None and call.own("num_features", call.args[0].shape[1]):
        call.adjusted["num_features"] = (axis, 1)
    return [axes]


def last_norm(call: Call) -> list[Axes]:
    """Normalise over the last axis: the module's ``normalized_shape`` follows the width."""
    axes, shape = list(call.axes(call.args[0])), tuple(call.get(1, "normalized_shape"))
    if len(shape) > 1 or (axes[-1] is not None and not call.own("normalized_shape", shape)):
        call.whole(*axes[-len(shape) :], why="normalises over a shape that is written in the code")
    for tensor in call.tensors:
        if tensor is not call.args[0]:
            for back in range(1, tensor.dim() + 1):
                meet(call.axes(tensor), -back, axes, -back, f"{call.where} has a fixed width")
    if len(shape) == 1 and (last := axes[-1]) is not None:
        call.adjusted["normalized_shape"] = (last, 1)
    return [axes]


def group_norm(call: Call) -> list[Axes]:
    """Normalise groups of channels (axis 1), each kept or dropped as a whole."""
    x, groups = call.args[0], call.get(1, "num_groups")
    axes, each = list(call.axes(x)), x.shape[1] // groups
    axis = axes[1]
    if axis is not None:
        if all(part.length % each == 0 for part in axis) and call.own("num_groups", groups):
            _whole_groups(axis, each)
            call.adjusted["num_groups"] = (axis, each)
        else:
            call.whole(axis, why="has groups that do not fit the channels")
    for tensor in call.tensors:
        if tensor is not x:
            meet(call.axes(tensor), 0, axes, 1, f"{call.where} has a fixed width")
    return [axes]


def pointwise(call: Call) -> list[Axes]:
    """Combine tensors place by place, with broadcasting."""
    tensors = list(call.tensors)
    made: Axes = []
    for back in range(call.out[0].dim(), 0, -1):
        size = call.out[0].shape[-back]
        full = [t for t in tensors if t.dim() >= back and t.shape[-back] == size]
        first = next((t for t in full if call.axes(t)[-back] is not None), None)
        if size == 1 or first is None:
            made.append(None)
            continue
        for other in full:
            if other is not first:
                meet(call.axes(first), -back, call.axes(other), -back, f"{call.where} combines them with others")
        made.append(use(call.axes(first)[-back]))
    return [list(made) for _ in call.out]


def per_channel(call: Call) -> list[Axes]:
    """Work on each map (axis 1) by itself: pooling, resizing."""
    x = call.args[0]
    axes = call.axes(x)
    same = x.shape[:2] == call.out[0].shape[:2]
    if not same:
        call.whole(*axes)
    return [[*axes[:2], *[None] * (out.dim() - 2)] if same else [None] * out.dim() for out in call.out]


def prelu(call: Call) -> list[Axes]:
    """Scale negative values of each channel (axis 1)."""
    axes, weight = list(call.axes(call.args[0])), call.args[1]
    if weight.numel() > 1:
        meet(call.axes(weight), 0, axes, 1, f"{call.where} has a fixed width")
    return [axes]


def _dims(call: Call, place: int = 1) -> list[int]:
    """The axes that a function is told, as numbers from 0."""
    told, count = call.get(place, "dim", call.kwargs.get("dims")), call.args[0].dim()
    told = range(count) if told is None or told == () else told if isinstance(told, (tuple, list)) else (told,)
    return [axis % count for axis in told]


def reduce(call: Call) -> list[Axes]:
    """Reduce over axes without channels, over heads, or to a mean over channels beside them, as norms do."""
    axes, dims = call.axes(call.args[0]), _dims(call)
    beside = call.name == "mean" and call.out[0].dim() == len(axes)
    wide = [axis for i in dims if (axis := axes[i]) is not None and not all(p.channels.root.heads for p in axis)]
    if not beside:
        call.whole(*wide, why="reduces over them")
    if call.out[0].dim() == len(axes):
        return [[None if i in dims else axis for i, axis in enumerate(axes)] for _ in call.out]
    return [[axis for i, axis in enumerate(axes) if i not in dims] for _ in call.out]


def along(call: Call) -> list[Axes]:
    """Work along axes without channels: softmax, roll."""
    axes = call.axes(call.args[0])
    dims = _dims(call, 2 if call.name in ("roll", "normalize") else 1)
    call.whole(*(axes[i] for i in dims), why="works along them")
    return [[None if i in dims else axis for i, axis in enumerate(axes)]]


def permute(call: Call) -> list[Axes]:
    """Reorder axes."""
    told = call.get(1, "dims")
    order = told if isinstance(told, (tuple, list)) else call.args[1:]
    axes = call.axes(call.args[0])
    return [[axes[i] for i in order]]


def transpose(call: Call) -> list[Axes]:
    """Exchange two axes."""
    axes = list(call.axes(call.args[0]))
    i, j = (0, 1) if call.name == "t" else (call.get(1, "dim0"), call.get(2, "dim1"))
    axes[i], axes[j] = axes[j], axes[i]
    return [axes]


def reshape(call: Call) -> list[Axes]:
    """Merge axes, the first of which may have channels, and divide heads; other divided channels stay whole."""
    x = call.args[0]
    axes = call.axes(x)
    return [_reshaped(call, tuple(x.shape), axes, tuple(out.shape)) for out in call.out]


def _reshaped(call: Call, old: Shape, axes: Axes, new: Shape) -> Axes:
    made: Axes = []
    for sources, targets in blocks(old, new):
        wide = [i for i in sources if old[i] > 1]
        first = axes[wide[0]] if wide else None
        kept = [j for j in targets if new[j] > 1]
        found: dict[int, Axis] = {}
        copies = _copies(old, axes, wide) if len(kept) == 1 else 0
        if not copies:
            call.whole(*(axes[i] for i in wide[1:]), why="merges them with an axis before")
        if copies:
            found[kept[0]] = (axes[wide[-1]] or ()) * copies
        elif first is not None and len(kept) == 1:
            places = math.prod(old[i] for i in wide[1:])
            found[kept[0]] = tuple(Part(part.channels, part.times * places) for part in first)
        elif first is not None:
            found = _heads(call, first, new, kept) if len(wide) == 1 else {}
            call.whole(*([] if found else [first]), why="divides them")
        for j, axis in found.items():
            counts = len(kept) > 1  # heads
            for name in call.sizes(new[j]) if axis is not None else ():
                if _is_number_of_heads(name) if counts else not re.search(_OF_OTHERS, name):
                    call.likely[name] = (axis or (), 1)
        made += [found.get(j) for j in targets]
    return made


def _copies(old: Shape, axes: Axes, wide: Sequence[int]) -> int:
    """How often channels come one after another where they are merged with axes before them, as in merged patches.

    0 where the axes before have channels, are the batch, or are many.
    """
    alone = len(wide) > 1 and wide[0] > 0 and axes[wide[-1]] is not None and all(axes[i] is None for i in wide[:-1])
    copies = math.prod(old[i] for i in wide[:-1])
    return copies if alone and copies <= _MOST_COPIES else 0


_MOST_COPIES = 64
_OF_OTHERS = "head.?(dim|size|width)|num_heads|image|img|patch|seq|window|kernel|resolution|classes|layers|depth"
"""Names of attributes that are no width, although they may have the same number."""


def _heads(call: Call, axis: tuple[Part, ...], new: Shape, kept: Sequence[int]) -> dict[int, Axis]:
    """The new axis that counts heads; channels that are not known to be heads yet are divided into them.

    They are the first of the axes, or the second after one for queries, keys and values. Their number is -1 in the call
    or an attribute of the module that runs, so that it can change. Empty if there is no such axis.
    """
    copies = new[kept[0]] if new[kept[0]] in (2, 3) and len(kept) > 2 else 1
    for place, times in ([(kept[1], copies)] if copies > 1 else []) + [(kept[0], 1)]:
        each, one = math.prod(new[j] for j in kept if j > place), axis[: len(axis) // times]
        told = call.args[1] if len(call.args) > 1 and isinstance(call.args[1], (tuple, list)) else call.args[1:]
        free = len(told) == len(new) and told[place] == -1
        named = any(map(_is_number_of_heads, call.sizes(new[place])))
        undivided = len(axis) == 1 or (len(one) == 1 and axis == one * times and not one[0].channels.root.heads)
        if undivided and axis[0].times == 1 and each > 1 and (free or named):
            heads = Channels(new[place], axis[0].channels.root.name, heads=True)
            axis[0].channels.root.divide((Part(heads, Fraction(each)),) * (times // len(axis) or 1))
            call.paired += [(heads, read)] if (read := call.read()) is not None else []
            axis = divided(axis) or ()
        one = axis[: len(axis) // times]
        if axis == one * times and all(not part.times % each for part in one):
            found = tuple(Part(part.channels.root, part.times / each) for part in one)
            return {place: found} if sum(part.length for part in found) == new[place] else {}
    return {}


def _is_number_of_heads(name: str) -> bool:
    """Whether an attribute seems to be a number of heads, by its name.

    >>> [_is_number_of_heads(name) for name in ("num_heads", "n_head", "head_dim", "attention_head_size")]
    [True, True, False, False]
    """
    return "head" in name and not re.search("dim|size|width", name)


def blocks(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes with equal products, in order: (old axes, new axes).

    >>> blocks((2, 6, 7), (2, 3, 14))
    [([0], [0]), ([1, 2], [1, 2])]
    """
    found, i, j = list[tuple[list[int], list[int]]](), 0, 0
    while i < len(old) or j < len(new):
        sources, targets = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(sources), j + len(targets)
        while (a := math.prod(old[k] for k in sources)) != (b := math.prod(new[k] for k in targets)):
            if (a < b or j >= len(new)) and i < len(old):
                sources.append(i)
                i += 1
            elif j < len(new):
                targets.append(j)
                j += 1
            else:
                break
        found.append((sources, targets))
    return found


def attention(call: Call) -> list[Axes]:
    """Attend within each head: (..., heads, places, channels of a head); several query heads may share keys."""
    query, key, value = (call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    lists = [call.axes(x) for x in (query, key, value)]
    for axes in lists:
        call.whole(*axes[-2:], why="works along them")
    _same_heads(call, key, lists[1], value, lists[2])
    _same_heads(call, query, lists[0], key, lists[1])
    mask = call.get(3, "attn_mask")
    if mask is not None:
        axes = call.axes(mask)
        call.whole(*axes[-2:], why="works along them")
        if mask.dim() > 2 and mask.shape[-3] > 1:
            meet(lists[0], -3, axes, -3, f"{call.where} combines them with others")
    return [[*lists[0][:-2], None, None]]


def _same_heads(call: Call, many: Tensor, a: Axes, few: Tensor, b: Axes) -> None:
    """Make the heads of two tensors the same; each of the second may belong to several of the first."""
    if min(many.dim(), few.dim()) < 4:
        call.whole(*a[:-2], *b[:-2])
        return
    each = many.shape[-3] // few.shape[-3]
    axis = b[-3]
    own: Axes = [axis if axis is None else tuple(Part(part.channels, part.times * each) for part in axis)]
    meet(own, 0, a, -3, f"{call.where} combines them with others")


def product(call: Call) -> list[Axes]:
    """Multiply matrices: a weight sums over the last axis of the other; otherwise channels only count matrices."""
    a, b = call.args[0], call.args[1]
    left, right = list(call.axes(a)), call.axes(b)
    if b.dim() == 2 and a.dim() >= 2 and right[0] is not None:
        meet(right, 0, left, -1, f"{call.where} reads a fixed input")
        call.reads.append((b, 0))
        return [[*left[:-1], use(right[1])]]
    call.whole(left[-1], right[-2 if b.dim() > 1 else -1], why="sums over them")
    made: Axes = [None] * call.out[0].dim()
    if a.dim() < 2 or b.dim() < 2:
        call.whole(*left, *right)
        return [made]
    for back in range(3, call.out[0].dim() + 1):
        full = [x for x in (left, right) if len(x) >= back and x[-back] is not None]
        if len(full) == 2:
            meet(left, -back, right, -back, f"{call.where} combines them with others")
        elif full and min(x.shape[-back] if x.dim() >= back else 1 for x in (a, b)) > 1:
            call.whole(full[0][-back], why="combines them with others")
            continue
        made[-back] = full[0][-back] if full else None
    made[-2:] = [left[-2], right[-1]]
    return [made]


def einsum(call: Call) -> list[Axes]:
    """Sum products: a letter is one axis, and channels that are summed over stay whole."""
    equation, tensors = call.args[0], list(each(call.args[1:], Tensor))
    if not isinstance(equation, str) or "." in equation or "->" not in equation:
        return unknown(call)
    inputs, _, output = equation.replace(" ", "").partition("->")
    found = dict[str, tuple[Axes, int]]()
    for letters, tensor in zip(inputs.split(","), tensors, strict=True):
        axes = call.axes(tensor)
        for place, letter in enumerate(letters):
            if tensor.shape[place] == 1:
                continue
            first = found.setdefault(letter, (axes, place))
            if first != (axes, place):
                meet(first[0], first[1], axes, place, f"{call.where} combines them with others")
    call.whole(*(axes[place] for letter, (axes, place) in found.items() if letter not in output), why="sums over them")
    return [[found[letter][0][found[letter][1]] if letter in found else None for letter in output]]


def embedding(call: Call) -> list[Axes]:
    """Take rows of a table, whose columns are the channels."""
    weight = call.get(1, "weight")
    axes = call.axes(weight)
    call.whole(axes[0], why="takes rows of them")
    return [[*[None] * call.args[0].dim(), use(axes[1])]]


def added_product(call: Call) -> list[Axes]:
    """Multiply by a weight (inputs, outputs), the turned one of a linear layer, and add a bias."""
    bias, x, weight = call.args[:3]
    left, right = list(call.axes(x)), call.axes(weight)
    if right[0] is None or bias.dim() != 1:
        return unknown(call)
    meet(right, 0, left, 1, f"{call.where} reads a fixed input")
    call.reads.append((weight, 0))
    _with_bias(call, bias, right, 1)
    return [[left[0], use(right[1])]]


def unbind(call: Call) -> list[Axes]:
    """Take each place of an axis without channels."""
    axes = call.axes(call.args[0])
    dim = call.get(1, "dim", 0) % len(axes)
    call.whole(axes[dim], why="divides them")
    return [[*axes[:dim], *axes[dim + 1 :]] for _ in call.out]


def repeat_each(call: Call) -> list[Axes]:
    """Repeat each place of an axis; a channel then takes more of them."""
    axes, times, dim = list(call.axes(call.args[0])), call.get(1, "repeats"), call.get(2, "dim")
    if not isinstance(times, int) or dim is None:
        return unknown(call)
    axis = axes[dim]
    axes[dim] = axis if axis is None else tuple(Part(part.channels, part.times * times) for part in axis)
    return [axes]


def squeeze(call: Call) -> list[Axes]:
    """Add or drop axes of size one."""
    axes = [axis for axis in call.axes(call.args[0]) if axis is not None]
    wide = [i for i, size in enumerate(call.args[0].shape) if size > 1]
    numbers = iter(call.axes(call.args[0])[i] for i in wide)
    made = [next(numbers, None) if size > 1 else None for size in call.out[0].shape]
    if len([axis for axis in made if axis is not None]) != len(axes):
        call.whole(*axes)
    return [made]


def concatenate(call: Call) -> list[Axes]:
    """Put channels one after another, or tensors one after another along an axis without channels."""
    tensors = [t for t in call.args[0] if t.numel() or t.dim() > 1]  # torch drops empty rows
    dim = call.get(1, "dim", 0)
    lists = [call.axes(t) for t in tensors]
    made: Axes = []
    for axis in range(call.out[0].dim()):
        if axis == dim % call.out[0].dim():
            made.append(_in_a_row(call, [axes[axis] for axes in lists]))
            continue
        first = next((axes for axes in lists if axes[axis] is not None), None)
        for axes in lists:
            if first is not None and axes is not first:
                meet(first, axis, axes, axis, f"{call.where} combines them with others")
        made.append(first[axis] if first is not None else None)
    return [made]


def _in_a_row(call: Call, axes: Sequence[Axis]) -> Axis:
    if any(axis is None for axis in axes):
        call.whole(*axes, why="puts them beside an axis without channels")
        return None
    return tuple(part for axis in axes for part in use(axis) or ())


def split(call: Call) -> list[Axes]:
    """Divide a tensor along an axis without channels, or into equal parts whose number or size the module knows."""
    axes, dim = call.axes(call.args[0]), call.get(2, "dim", 0) % call.args[0].dim()
    sizes = [out.shape[dim] for out in call.out]
    told = call.get(1, "split_size")
    names = call.sizes(told) if call.name == "split" and isinstance(told, int) else []
    pieces: list[Axis] = [None] * len(sizes)
    if (axis := axes[dim]) is not None:
        equal = len(set(sizes)) == 1 and (call.name == "chunk" or bool(names))
        if equal and len(axis) == 1 and axis[0].times == 1 and not axis[0].channels.root.heads and sizes[0] > 1:
            part = Part(Channels(sizes[0], axis[0].channels.root.name))
            axis[0].channels.root.divide((part,) * len(sizes))
            axis = divided(axis) or ()
        each, rest = divmod(len(axis), len(sizes))
        alike = [axis[i * each : (i + 1) * each] for i in range(len(sizes))]
        if equal and not rest and [sum(p.length for p in a) for a in alike] == sizes:
            for piece in alike[1:]:
                meet([alike[0]], 0, [piece], 0, f"{call.where} makes equal parts")
            pieces = list(alike)
            call.likely.update({name: (alike[0], 1) for name in names if not re.search(_OF_OTHERS, name)})
        else:
            call.whole(axis, why="divides them")
    return [[*axes[:dim], piece, *axes[dim + 1 :]] for piece in pieces]


def take(call: Call) -> list[Axes]:
    """Take a part of axes without channels."""
    told = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    axes, made = call.axes(call.args[0]), Axes()
    if len(told) == 1 and isinstance(told[0], Tensor) and told[0].dtype == torch.int64:  # rows of a table
        call.whole(axes[0], why="takes a part of them")
        return [[*[None] * told[0].dim(), *axes[1:]]]
    if not all(entry is None or entry is Ellipsis or type(entry) in (int, slice) for entry in told):
        return unknown(call)
    named = sum(type(entry) in (int, slice) for entry in told)
    told = told if Ellipsis in told else (*told, Ellipsis)
    place = 0
    for entry in told:
        if entry is None:
            made.append(None)
        elif entry is Ellipsis:
            made += axes[place : place + len(axes) - named]
            place += len(axes) - named
        else:
            part = axes[place] if entry == slice(None) else _share(axes, entry)
            if entry != slice(None) and part is None:
                call.whole(axes[place], why="takes a part of them")
            if type(entry) is slice:
                made.append(part)
            place += 1
    return [made]


def _share(axes: Axes, entry: Any) -> Axis:
    """The part of a bias that a slice takes, if it is one of two or three equal ones such as that of the keys."""
    axis = axes[0]
    if len(axes) > 1 or axis is None or type(entry) is not slice:
        return None
    size = sum(part.length for part in axis)
    start, stop, step = entry.indices(size)
    taken = stop - start
    if step != 1 or taken < 2 or size not in (2 * taken, 3 * taken) or start % taken:
        return None
    if len(axis) == 1 and axis[0].times == 1 and not axis[0].channels.root.heads:
        part = Part(Channels(taken, axis[0].channels.root.name))
        axis[0].channels.root.divide((part,) * (size // taken))
        return (part,)
    one = axis[: len(axis) * taken // size]
    return one if axis == one * (size // taken) else None


def pad(call: Call) -> list[Axes]:
    """Add places at the ends of axes without channels."""
    axes, told = list(call.axes(call.args[0])), call.get(1, "pad")
    for back in range(len(told) // 2):
        if any(told[2 * back : 2 * back + 2]):
            call.whole(axes[-1 - back], why="pads them")
            axes[-1 - back] = None
    return [axes]


def filled(call: Call) -> list[Axes]:
    """Make a tensor that only has the type of another."""
    return [[None] * out.dim() for out in call.out]


def expand(call: Call) -> list[Axes]:
    """Repeat axes of size one."""
    old, new = call.axes(call.args[0]), call.out[0].shape
    shape = call.args[0].shape
    lead = len(new) - len(shape)
    kept = [axis if shape[i] == new[lead + i] else None for i, axis in enumerate(old)]
    return [[*[None] * lead, *kept]]


ACTIVATIONS = {
    *("relu", "relu6", "hardswish", "hardsigmoid", "hardtanh", "sigmoid", "tanh", "silu", "gelu", "elu", "selu"),
    *("celu", "leaky_relu", "mish", "softplus", "softsign", "logsigmoid", "threshold"),
}
DROPOUTS = {
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
}
ADDITIONS = {"add", "radd", "iadd"}
COPIES = {"clone", "contiguous", "float", "double", "half", "bfloat16", "to", "type", "type_as", "detach"}
PASSING = {*ACTIVATIONS, *DROPOUTS, *COPIES, "layer_norm", "rms_norm"}
_POINTWISE = {
    *("sub", "rsub", "isub", "mul", "rmul", "imul", "div", "rdiv", "truediv", "rtruediv", "true_divide"),
    *("neg", "abs", "exp", "sqrt", "rsqrt", "pow", "square", "clamp", "clip", "clamp_min", "clamp_max"),
    *("maximum", "minimum", "multiply", "divide", "subtract", "zeros_like", "ones_like", "empty_like", "masked_fill"),
    *("zero", "fill"),
}
_POOLS = {
    f"{kind}_pool{rank}d" for kind in ("avg", "max", "adaptive_avg", "adaptive_max", "lp") for rank in (1, 2, 3)
} | {"max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices", "interpolate", "upsample"}

RULES: dict[str, Rule] = {
    **{f"conv{rank}d": convolution for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": convolution for rank in (1, 2, 3)},
    "linear": linear,
    "batch_norm": channel_norm,
    "instance_norm": channel_norm,
    "layer_norm": last_norm,
    "rms_norm": last_norm,
    "group_norm": group_norm,
    "prelu": prelu,
    **dict.fromkeys(ACTIVATIONS | DROPOUTS | ADDITIONS | COPIES | _POINTWISE, pointwise),
    **dict.fromkeys(_POOLS, per_channel),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), reduce),
    **dict.fromkeys(("softmax", "log_softmax", "roll"), along),
    "permute": permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "t"), transpose),
    **dict.fromkeys(("reshape", "view", "flatten", "unflatten"), reshape),
    **dict.fromkeys(("squeeze", "unsqueeze"), squeeze),
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenate),
    **dict.fromkeys(("chunk", "split"), split),
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(("matmul", "bmm"), product),
    "einsum": einsum,
    "embedding": embedding,
    "addmm": added_product,
    "unbind": unbind,
    "repeat_interleave": repeat_each,
    **dict.fromkeys(("new_zeros", "new_ones", "new_empty", "new_full", "new_tensor"), filled),
    "normalize": along,
    "getitem": take,
    "pad": pad,
    "expand": expand,
}
VIEWS = {
    *("permute", "transpose", "swapaxes", "swapdims", "t", "reshape", "view", "flatten", "unflatten", "squeeze"),
    *("unsqueeze", "chunk", "split", "unbind", "getitem", "expand", "get", "zeros_like", "ones_like", "empty_like"),
}
