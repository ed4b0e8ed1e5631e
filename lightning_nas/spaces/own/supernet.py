"""A user's module as a supernet: the module's own code runs on slices of its weights.

Nothing of the code is rewritten. A copy of the module runs through ``torch.func.functional_call`` with the slices of
the parameters that an architecture keeps, and with the attributes (groups, normalised shape, padding) that fit them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_nas.choice import Layer, Repeat
from lightning_nas.ops.outputs import logits_of, words_of
from lightning_nas.spaces.base import Supernet
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.own.axes import Axes, Channels, Part, length, ranges
from lightning_nas.spaces.own.elastic import Depth, Element, Kernel, Pick, Prefix, Sizes, Width, cut, element_sizes
from lightning_nas.spaces.own.inputs import arguments
from lightning_nas.spaces.own.reading import Reading, all_named
from lightning_nas.spaces.own.resizing import Resizing, Resolution
from lightning_nas.spaces.own.varied import Setting, Varied


class Leavable(nn.Module):
    """A residual block that may be left out: ``keep * block(x) + skip * x``.

    Attributes:
        kept: the block.
        runs: whether the block runs, and whether the input passes by it.
        weights: (skip, keep), or None if one of them runs alone with weight one.
    """

    def __init__(self, kept: nn.Module) -> None:
        super().__init__()
        self.kept = kept
        self.runs = (True, False)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        block, passes = self.runs
        if self.weights is None:
            return self.kept(x, *args, **kwargs) if block else x
        mixed: Tensor = self.weights[0].to(x.dtype) * x if passes else torch.zeros_like(x)
        return mixed + self.weights[1].to(x.dtype) * self.kept(x, *args, **kwargs) if block else mixed


class Form:
    """Sizes of a network, as they follow from the options of a module that was read.

    Args:
        reading: what its run showed.
        elements: the decisions.
    """

    def __init__(self, reading: Reading, elements: Sequence[Element]) -> None:
        self.reading, self.elements = reading, tuple(elements)
        self.decisions = {element.name: element.options for element in elements}
        self.groups = {name: _group_name(name) for name in self.decisions}
        self.widths = {e.channels: e for e in elements if isinstance(e, Width)}
        self.kernels = {e.weight: e for e in elements if isinstance(e, Kernel)}
        self.leavable = [e.path for e in elements if isinstance(e, Depth)]
        self.axes: dict[str, Axes] = {}
        for name, axes in reading.axes.items():
            mine: Axes = [a if any(p.channels.root in self.widths for p in a or ()) else None for a in axes]
            if any(mine) or name in self.kernels:
                self.axes[name] = mine

    def inside(self, name: str) -> str:
        """The name in a supernet of a parameter or module of the user's."""
        for path in self.leavable:
            if name.startswith(f"{path}."):
                return f"{path}.kept{name[len(path) :]}"
        return name

    def sizes(self, options: Sequence[str]) -> Sizes:
        """The sizes that options describe, one for each decision."""
        return element_sizes(self.elements, dict(zip(self.decisions, options, strict=True)))

    def attributes(self, sizes: Sizes) -> dict[tuple[str, str], Any]:
        """The attributes of modules in a network of some sizes, by (path, name)."""
        found: dict[tuple[str, str], Any] = {}
        for place, told in self.reading.adjusted.items():
            if any(part.channels.root in self.widths for part in told[0]):
                found[place] = adjusted(place[1], told, sizes)
        for name, kernel in self.kernels.items():
            if kernel.padding is not None:
                found[kernel.path, "padding"] = kernel.padded(sizes.kernels.get(name, kernel.size))
        return found | sizes.settings

    def place_leavable(self, network: nn.Module) -> nn.Module:
        """Put every block that may be left out into a :class:`Leavable`."""
        for path in self.leavable:
            _put(network, path, Leavable(network.get_submodule(path)))
        return network


def adjusted(attribute: str, told: tuple[tuple[Part, ...], int], sizes: Sizes) -> Any:
    """The value of an attribute that follows a width."""
    value = length(told[0], sizes.widths) // told[1]
    return (value,) if attribute == "normalized_shape" else value


def _group_name(decision: str) -> str:
    return decision.replace(".", "_")


def _put(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


class OwnSupernet(Supernet):
    """All narrower, shallower and smaller networks of a module in one.

    A layer of several active widths runs at the widest whose gate is not zero, and the weights that read it are scaled
    by the gates: channel ``c`` by the sum of the gates of the widths above ``c``. So a one-hot gate is the narrow
    network itself. A layer norm over such channels uses the statistics of the widest. A weight that makes channels in
    one place and reads them in another, as of tied embeddings, is scaled in both. Kernels are mixed likewise.

    Args:
        network: a copy of the module, which the supernet owns.
        form: its sizes.
    """

    def __init__(self, network: nn.Module, form: Form) -> None:
        super().__init__()
        self.network = form.place_leavable(network)
        self.form = form
        self.train()

    def forward(self, x: Any, gates: Gates) -> Tensor:
        """Compute the logits of a tensor (N, ...), or of a tuple or dict of tensors, as the module takes them."""
        active = _active(self.form, gates)
        sizes = self.form.sizes([options[max(active[name])] for name, options in self.form.decisions.items()])
        masks = {} if gates.one_path else self._masks(gates, active, sizes)
        self._set(gates, active, sizes)
        shared = all_named(self.network)
        used, buffers = {}, []
        for name, axes in self.form.axes.items():
            inside = self.form.inside(name)
            if inside not in shared:  # tied to another parameter, which is cut
                continue
            used[inside] = cut(shared[inside], axes, sizes, name)
            if not shared[inside].requires_grad and not isinstance(shared[inside], nn.Parameter):
                buffers.append((shared[inside], used[inside], axes))
            for mask in masks.get(name, ()):
                used[inside] = used[inside] * mask.to(used[inside].dtype)
            if shared[inside].requires_grad and not used[inside].requires_grad:
                used[inside] = used[inside].detach().requires_grad_()  # torch takes other kernels for weights without
        try:
            logits: Tensor = logits_of(functional_call(self.network, used, *arguments(words_of(x))))
        finally:
            for module in self.network.modules():
                if isinstance(module, Leavable):
                    module.weights = None
                elif isinstance(module, (Layer, Repeat, Varied)):
                    module.taken = None
                if isinstance(module, Resizing):
                    module.mixed = None
        if self.training:
            _write_back(buffers, sizes)
        return logits

    def _set(self, gates: Gates, active: Mapping[str, tuple[int, ...]], sizes: Sizes) -> None:
        """Set the attributes of the copy, and which blocks and options run."""
        for (path, attribute), value in self.form.attributes(sizes).items():
            setattr(self.network.get_submodule(self.form.inside(path)), attribute, value)
        for element in self.form.elements:
            if isinstance(element, Depth):
                block = self.network.get_submodule(element.path)
                assert isinstance(block, Leavable)
                block.runs = (1 in active[element.name], 0 in active[element.name])
                block.weights = None if gates.one_path else gates.values[self.form.groups[element.name]][0]
            elif isinstance(element, (Pick, Prefix)):
                row = None if gates.one_path else gates.values[self.form.groups[element.name]][0]
                chooser = self.network.get_submodule(self.form.inside(element.path))
                assert isinstance(chooser, (Layer, Repeat))
                told = element.options if isinstance(element, Pick) else element.depths
                chooser.taken = {told[i]: None if row is None else row[i] for i in active[element.name]}
            elif isinstance(element, Resolution) and not gates.one_path:
                assert isinstance(self.network, Resizing)
                row = gates.values[self.form.groups[element.name]][0]
                self.network.mixed = {element.sizes[i]: row[i] for i in active[element.name]}
            elif isinstance(element, Setting):
                module = self.network.get_submodule(self.form.inside(element.path))
                if isinstance(module, Varied):
                    row = None if gates.one_path else gates.values[self.form.groups[element.name]][0]
                    running = {i: None if row is None else row[i] for i in active[element.name]}
                    module.taken = {**(module.taken or {}), element.name: running}

    def _masks(self, gates: Gates, active: Mapping[str, tuple[int, ...]], sizes: Sizes) -> dict[str, list[Tensor]]:
        """Factors of the weights that read channels or have kernels of several sizes, by parameter."""
        rows = {e: gates.values[self.form.groups[e.name]][0] for e in self.form.elements}
        scales = {
            e.channels: _scale(e, rows[e], active[e.name], sizes.widths[e.channels])
            for e in self.form.elements
            if isinstance(e, Width)
        }
        found: dict[str, list[Tensor]] = {}
        for name, place in sorted(self.form.reading.reads):
            axes = self.form.axes.get(name)
            axis = axes[place] if axes is not None else None
            if axis is not None:
                count = len(self.form.reading.axes[name])
                scale = torch.cat([_along(part, scales, sizes) for part in axis])
                found.setdefault(name, []).append(scale.reshape([-1 if i == place else 1 for i in range(count)]))
        for name, kernel in self.form.kernels.items():
            rank = len(self.form.reading.axes[name]) - 2
            found.setdefault(name, []).append(_centre(kernel, rows[kernel], active[kernel.name], sizes, rank))
        return found


def _active(form: Form, gates: Gates) -> dict[str, tuple[int, ...]]:
    """The options of each decision that have an effect: they are active, and their gates are not zero."""
    active = {name: gates.active[group][0] for name, group in form.groups.items()}
    if gates.one_path:
        return active
    rows = [gates.values[group][0].detach() for group in form.groups.values()]
    on = iter(torch.split((torch.cat(rows) != 0).cpu(), [len(row) for row in rows]))
    found = {}
    for name, options in active.items():
        nonzero = next(on).tolist()
        found[name] = tuple(i for i in options if nonzero[i]) or options
    return found


def _scale(element: Width, row: Tensor, active: Sequence[int], width: int) -> Tensor:
    """Sum of the gates of the widths that have each channel, (width,)."""
    places = torch.arange(width, device=row.device)
    return torch.stack([row[i] * (places < element.widths[i]) for i in active]).sum(0)


def _along(part: Part, scales: Mapping[Channels, Tensor], sizes: Sizes) -> Tensor:
    """Factors of the places of one part of an axis."""
    scale = scales.get(part.channels.root)
    kept = part.kept(sizes.widths)
    if scale is None:
        return next(iter(scales.values())).new_ones(kept)
    return scale[(torch.arange(kept, device=scale.device) / float(part.times)).long()]


def _centre(kernel: Kernel, row: Tensor, active: Sequence[int], sizes: Sizes, rank: int) -> Tensor:
    """Sum of the gates of the kernels that reach each place."""
    size = sizes.kernels[kernel.weight]
    away = (torch.arange(size, device=row.device) - size // 2).abs()
    reach = [(2 * away < kernel.sizes[i]) for i in active]
    mixed = row.new_zeros([size] * rank)
    for i, inside in zip(active, reach, strict=True):
        mask = inside
        for _ in range(rank - 1):
            mask = mask.unsqueeze(-1) & inside
        mixed = mixed + row[i] * mask
    return mixed


def _write_back(buffers: Sequence[tuple[Tensor, Tensor, Axes]], sizes: Sizes) -> None:
    """Store running statistics that are no view of the shared ones: those of concatenations."""
    with torch.no_grad():
        for whole, part, axes in buffers:
            if axes[0] is None or part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr():
                continue
            start = 0
            for first, count in ranges(axes[0], sizes.widths):
                whole[first : first + count] = part[start : start + count]
                start += count
