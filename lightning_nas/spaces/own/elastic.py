"""Decisions of a module that was read, and the tensors of every size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.spaces.own.axes import Axes, Axis, Channels, Part, divided, length, ranges
from lightning_nas.spaces.own.reading import Reading, Recorded, divide_all
from lightning_nas.spaces.own.resizing import Resolution
from lightning_nas.spaces.own.rules import KEEP, SKIP, Rule, widths
from lightning_nas.spaces.own.varied import Setting


@dataclass(frozen=True)
class Sizes:
    """Sizes of one network.

    Attributes:
        widths: kept channels of each group that is not whole.
        kernels: size of each kernel that is not whole, by parameter.
        left_out: paths of blocks that are left out.
        picked: option of each layer with options, by path.
        depths: number of blocks of each repeat, by path.
        settings: other attributes of modules, by (path, attribute).
    """

    widths: dict[Channels, int] = field(default_factory=dict)
    kernels: dict[str, int] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    picked: dict[str, str] = field(default_factory=dict)
    depths: dict[str, int] = field(default_factory=dict)
    settings: dict[tuple[str, str], Any] = field(default_factory=dict)

    def is_left_out(self, path: str) -> bool:
        """Whether the module at a path is in a block that is left out."""
        return any(is_inside(path, block) for block in self.left_out)

    def lacks(self, path: str) -> bool:
        """Whether the network does not have the module at a path."""
        return (
            self.is_left_out(path)
            or any(_child(path, layer) not in (None, option) for layer, option in self.picked.items())
            or any((block := _child(path, row)) is not None and int(block) >= n for row, n in self.depths.items())
        )


@dataclass(frozen=True, eq=False)
class Width:
    """A group of channels, of which the first ones are kept.

    Attributes:
        name: of the decision.
        options: numbers of channels, ascending.
        channels: the group.
        members: modules whose parameters have these channels.
        widths: number of channels of each option.
    """

    name: str
    options: tuple[str, ...]
    channels: Channels
    members: tuple[str, ...]
    widths: tuple[int, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules that it changes."""
        return self.members


@dataclass(frozen=True, eq=False)
class Depth:
    """A residual block that may be left out.

    Attributes:
        name: of the decision.
        options: skip, keep.
        path: of the block.
    """

    name: str
    path: str
    options: tuple[str, ...] = (SKIP, KEEP)

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules that it changes."""
        return (self.path,)

    def allowed(self, path: str) -> tuple[str, ...] | None:
        """The options under which the module at a path exists; None if it is not inside."""
        return (KEEP,) if is_inside(path, self.path) else None


@dataclass(frozen=True, eq=False)
class Kernel:
    """A convolution of which the centre of the kernel is kept; the padding shrinks with it.

    Attributes:
        name: of the decision.
        options: ``k3``, ``k5`` ..., ascending.
        weight: name of the parameter.
        path: of the module.
        size: of the whole kernel.
        padding: of the whole kernel; None if torch finds it ("same").
        dilation: of the kernel.
        sizes: of the kernel, for each option.
    """

    name: str
    options: tuple[str, ...]
    weight: str
    path: str
    size: int
    padding: tuple[int, ...] | None
    dilation: int
    sizes: tuple[int, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules that it changes."""
        return (self.path,)

    def padded(self, size: int) -> tuple[int, ...]:
        """Padding of a smaller kernel with the same output."""
        return tuple(side - self.dilation * (self.size - size) // 2 for side in self.padding or ())


@dataclass(frozen=True, eq=False)
class Pick:
    """A layer with options, one of which runs.

    Attributes:
        name: of the decision.
        options: names of the options, by number of parameters.
        path: of the layer.
    """

    name: str
    options: tuple[str, ...]
    path: str

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules that it changes."""
        return (self.path,)

    def allowed(self, path: str) -> tuple[str, ...] | None:
        """The options under which the module at a path exists; None if it is not inside."""
        option = _child(path, self.path)
        return None if option is None else (option,)


@dataclass(frozen=True, eq=False)
class Prefix:
    """A row of blocks, the first of which run.

    Attributes:
        name: of the decision.
        options: ascending.
        path: of the row.
        depths: number of blocks of each option.
    """

    name: str
    options: tuple[str, ...]
    path: str
    depths: tuple[int, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules that it changes."""
        return (self.path,)

    def allowed(self, path: str) -> tuple[str, ...] | None:
        """The options under which the module at a path exists; None if it is not inside."""
        block = _child(path, self.path)
        if block is None:
            return None
        return tuple(option for option, n in zip(self.options, self.depths, strict=True) if n > int(block))


Element = Width | Depth | Kernel | Pick | Prefix | Setting | Resolution
"""A change in one place under a decision. Elements with one name are one decision, and have the same options."""


def element_sizes(elements: Iterable[Element], chosen: Mapping[str, str]) -> Sizes:
    """The sizes that the options of decisions describe."""
    sizes = Sizes()
    left_out = set[str]()
    for element in elements:
        number = element.options.index(chosen[element.name])
        match element:
            case Width():
                sizes.widths[element.channels] = element.widths[number]
            case Kernel():
                sizes.kernels[element.weight] = element.sizes[number]
            case Pick():
                sizes.picked[element.path] = element.options[number]
            case Prefix():
                sizes.depths[element.path] = element.depths[number]
            case Setting():
                sizes.settings[element.path, element.attribute] = element.values[number]
            case Resolution():
                sizes.settings["", "input_size"] = element.sizes[number]
            case Depth():
                left_out.update([element.path] if element.options[number] == SKIP else [])
    return replace(sizes, left_out=frozenset(left_out))


def conditions(elements: Iterable[Element], path: str) -> dict[str, tuple[str, ...]]:
    """The options of decisions under which the module at a path exists; empty if it always does."""
    found = dict[str, tuple[str, ...]]()
    for element in elements:
        allowed = element.allowed(path) if isinstance(element, (Depth, Pick, Prefix)) else None
        if allowed is not None and (len(allowed) < len(element.options) or element.name in found):
            known = found.get(element.name, element.options)
            found[element.name] = tuple(option for option in known if option in allowed)
    return found


def is_inside(path: str, block: str) -> bool:
    """Whether a path is that of a block or of a module in it."""
    return not block or path == block or path.startswith(f"{block}.")


def _child(path: str, parent: str) -> str | None:
    """The name of the child of ``parent`` that is or has the module at a path."""
    if not is_inside(path, parent) or path == parent:
        return None
    return path[len(parent) + 1 if parent else 0 :].partition(".")[0]


@dataclass
class Found:
    """Elements that rules made elastic, and those that stayed fixed.

    Attributes:
        elements: the decisions, in the order of the module.
        fixed: (what, why) of what could or should not be searched.
        failed: decisions that the module's code does not allow.
    """

    elements: list[Element] = field(default_factory=list)
    fixed: list[tuple[str, str]] = field(default_factory=list)
    failed: list[Element] = field(default_factory=list)


def couple(reading: Reading, failed: Sequence[Element]) -> bool:
    """Make heads the channels that their module is given, where neither can change alone; False if there are none.

    Code such as ``reshape(n, length, x.shape[-1])`` needs as many channels in all heads as there are in its input.
    """
    alone = {e.channels.root for e in failed if isinstance(e, Width)}
    changed = False
    for heads, given, _ in reading.paired:
        axis, heads = divided(given) or (), heads.root
        if len(axis) != 1 or heads not in alone or (other := axis[0].channels.root) not in alone or other is heads:
            continue
        if other.heads and other.size == heads.size:
            heads.join(other)
        elif not other.heads and axis[0].times == 1 and other.size % heads.size == 0:
            other.divide((Part(heads, Fraction(other.size, heads.size)),))
        else:
            continue
        alone.add(heads.root)
        changed = True
    divide_all(reading)
    return changed


def find(module: nn.Module, reading: Reading, rules: Sequence[Rule], written: Sequence[Element] = ()) -> Found:
    """Make every group of channels, residual block and kernel elastic that the rules name and the graph allows.

    Args:
        module: the module.
        reading: of the module.
        rules: what a person wants to be searched.
        written: the decisions of choices in the module, which rules do not change.
    """
    found = Found()
    modules = dict(module.named_modules())
    learned = [name for name, _ in module.named_parameters()]
    order = {path: number for number, path in enumerate(modules)}
    elements: list[Element] = [
        *written,
        *_widths(modules, learned, reading, rules, found, {e.channels for e in written if isinstance(e, Width)}),
        *_depths(modules, reading, rules),
        *_kernels(modules, reading, rules, found, {e.weight for e in written if isinstance(e, Kernel)}),
    ]
    found.elements = sorted(elements, key=lambda e: order[e.paths[0]])
    return found


def told(rules: Sequence[Rule], path: str, module: nn.Module) -> list[Rule]:
    """The rules that match a module, the last first; none if one of them freezes it."""
    matching = [rule for rule in reversed(rules) if _matches(rule, path, module)]
    return [] if any(rule.frozen for rule in matching) else matching


def _frozen(rules: Sequence[Rule], path: str, module: nn.Module) -> bool:
    return any(rule.frozen and _matches(rule, path, module) for rule in rules)


def _matches(rule: Rule, path: str, module: nn.Module) -> bool:
    """Whether a rule names a module, which may be what another rule keeps beside other operations."""
    given = ".".join(part for part in path.split(".") if part != KEEP)
    return rule.matches(path, module) or rule.matches(given, module)


def _widths(
    modules: Mapping[str, nn.Module],
    learned: Sequence[str],
    reading: Reading,
    rules: Sequence[Rule],
    found: Found,
    written: Collection[Channels],
) -> list[Width]:
    makers, readers, members = groups_of(learned, reading)
    read, made = {name for name, _ in reading.reads}, []
    for channels, names in makers.items():
        if channels in written or (channels not in readers and not read.intersection(names)):
            continue  # has its widths, or are places and not channels
        names.sort(key=lambda name: name not in read)
        if channels.heads:  # keys before the queries that share them
            names.sort(
                key=lambda name: sum(
                    p.times for a in reading.axes[name] for p in a or () if p.channels.root is channels
                )
            )
        paths = tuple(dict.fromkeys(owner(name) for name in names))
        called = paths[0] or names[0]
        kind = "heads" if channels.heads else "channels"
        what = f"{called}: {channels.size} {kind}"
        frozen = [path for path in members[channels] if _frozen(rules, path, modules[path])]
        rule = next((r for p in paths for r in told(rules, p, modules[p]) if r.width is not None), None)
        if frozen:
            found.fixed.append((what, f"a rule freezes {frozen[0]}"))
        elif channels.fixed is not None:
            found.fixed.append((what, channels.fixed))
        elif channels not in readers:
            found.fixed.append((what, "no weight reads them"))
        elif rule is None or rule.width is None:
            found.fixed.append((what, "no rule names them"))
        else:
            ratios, divisor = rule.width
            options = widths(channels.size, channels.quantum, ratios, 1 if channels.heads else divisor)
            if len(options) > 1:
                together = tuple(dict.fromkeys((*paths, *members[channels])))
                name = f"{called}.heads" if channels.heads else f"{called}.width"
                made.append(Width(name, tuple(map(str, options)), channels, together, options))
            else:
                found.fixed.append((what, f"they cannot be divided: the smallest step is {channels.quantum}"))
    return made


def groups_of(
    learned: Sequence[str], reading: Reading
) -> tuple[dict[Channels, list[str]], set[Channels], dict[Channels, list[str]]]:
    """For each group: the weights that make it, whether one reads it, and all modules with parameters of it."""
    makers, readers, members = dict[Channels, list[str]](), set[Channels](), dict[Channels, list[str]]()
    read = {name for name, _ in reading.reads}
    for name in learned:
        for place, axis in enumerate(reading.axes[name]):
            for part in axis or ():
                root = part.channels.root
                if not root.used or root.size < 2:
                    continue
                members.setdefault(root, []).append(owner(name))
                if (name, place) in reading.reads:
                    readers.add(root)
                elif name in read or len(reading.axes[name]) > 1:
                    makers.setdefault(root, []).append(name)
    return makers, readers, {root: list(dict.fromkeys(paths)) for root, paths in members.items()}


def _depths(modules: Mapping[str, nn.Module], reading: Reading, rules: Sequence[Rule]) -> list[Depth]:
    made = []
    for path in reading.residual:
        inner = any(other.startswith(f"{path}.") for other in reading.residual)
        within = {p: m for p, m in modules.items() if p == path or p.startswith(f"{path}.")}
        frozen = any(_frozen(rules, p, m) for p, m in within.items())
        does_something = any(not isinstance(m, nn.Identity) and not any(m.children()) for m in within.values())
        if not inner and not frozen and does_something and any(rule.depth for rule in told(rules, path, modules[path])):
            made.append(Depth(f"{path}.depth", path))
    return made


def _kernels(
    modules: Mapping[str, nn.Module],
    reading: Reading,
    rules: Sequence[Rule],
    found: Found,
    written: Collection[str],
) -> list[Kernel]:
    made = []
    calls = [(call, call.slots[1]) for call in reading.whole if call.name in ("conv1d", "conv2d", "conv3d")]
    for call, weight in calls:
        if weight.name is None or not weight.learned or min(weight.shape[2:]) < 4 or weight.name in written:
            continue
        path, size = owner(weight.name), weight.shape[2]
        rule = next((r for r in told(rules, path, modules[path]) if r.kernel is not None), None)
        if rule is None or rule.kernel is None:
            continue
        padding, dilation = convolved(call)
        odd = range(3, size, 2) if not rule.kernel else rule.kernel
        sizes = [k for k in odd if k < size and k % 2 == size % 2 and k > 1]
        once = sum(other.name == weight.name for _, other in calls) == 1 and path == call.module
        why = "" if once else "its weight is used more than once"
        why = why or ("" if sizes else "no smaller size is named")
        why = why or kernel_is_fixed(modules[path], weight.shape[2:], padding, dilation, min(sizes, default=size))
        if why:
            found.fixed.append((f"{path}: {size}x{size} kernel", why))
            continue
        told_sizes = (*sorted(sizes), size)
        options = tuple(f"k{k}" for k in told_sizes)
        whole = None if isinstance(padding, str) else tuple(padding)
        made.append(Kernel(f"{path}.kernel", options, weight.name, path, size, whole, dilation[0], told_sizes))
    return made


def convolved(call: Recorded) -> tuple[tuple[int, ...] | str, tuple[int, ...]]:
    """Padding and dilation of a convolution, one number a side."""
    rank = int(call.name[4])

    def sides(place: int, name: str, default: int) -> Any:
        value = call.args[place] if len(call.args) > place else call.kwargs.get(name, default)
        return value if isinstance(value, str) else (value,) * rank if isinstance(value, int) else tuple(value)

    return sides(4, "padding", 0), sides(5, "dilation", 1)


def kernel_is_fixed(
    module: nn.Module, shape: Sequence[int], padding: tuple[int, ...] | str, dilation: tuple[int, ...], least: int
) -> str:
    """Why a kernel cannot be cut; "" if it can."""
    if len(set(shape)) > 1 or shape[0] % 2 == 0 or len(set(dilation)) > 1:
        return "only kernels with one odd size are cut"
    if padding == "same":
        return ""
    if isinstance(padding, str) or getattr(module, "padding", None) != padding:
        return "its padding is no attribute of the module"
    if min(padding) < dilation[0] * (shape[0] - least) // 2:
        return "its padding is too small to keep the size of the output"
    return ""


def owner(name: str) -> str:
    """Path of the module that a parameter belongs to.

    >>> owner("layer1.0.conv1.weight"), owner("scale")
    ('layer1.0.conv1', '')
    """
    return name.rpartition(".")[0]


# -- tensors ----------------------------------------------------------------------------------------------------


def shape_of(full: Sequence[int], axes: Axes, sizes: Sizes, name: str | None = None) -> tuple[int, ...]:
    """Shape of a tensor in a network of other sizes."""
    shape = [length(axis, sizes.widths) if axis is not None else size for size, axis in zip(full, axes, strict=True)]
    if name is not None and name in sizes.kernels:
        shape[2:] = [sizes.kernels[name]] * (len(shape) - 2)
    return tuple(shape)


def cut(tensor: Tensor, axes: Axes, sizes: Sizes, name: str) -> Tensor:
    """The part of a shared tensor that a network uses; a view where that is possible."""
    whole = tensor
    if tensor.is_meta:
        shape = shape_of(tensor.shape, axes, sizes, name)
        return tensor if shape == tensor.shape else torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
    for place, axis in enumerate(axes):
        if axis is None:
            continue
        kept = ranges(axis, sizes.widths)
        if kept != [(0, tensor.shape[place])]:
            pieces = [tensor.narrow(place, start, count) for start, count in kept]
            tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces, place)
    if name in sizes.kernels:
        for place in range(2, tensor.dim()):
            rest = tensor.shape[place] - sizes.kernels[name]
            tensor = tensor.narrow(place, rest // 2, tensor.shape[place] - rest)
    return tensor if tensor is whole else tensor.contiguous()


def touches(axis: Axis, elastic: Mapping[Channels, object]) -> list[Channels]:
    """The elastic groups on an axis, in order."""
    parts: tuple[Part, ...] = axis or ()
    return list(dict.fromkeys(p.channels.root for p in parts if p.channels.root in elastic))
