"""Elastic mobile networks: a stand-alone one, and the supernet that runs all of them on slices of the largest."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.spaces.base import Supernet
from lightning_nas.spaces.elastic.layers import (
    ElasticBlock,
    ElasticHead,
    Mixed,
    MobileBlock,
    MobileHead,
    active_conv,
    centre,
    convolved,
    normed,
    resized,
)
from lightning_nas.spaces.elastic.shapes import Block, Form, Number, Sized, hidden, squeezed
from lightning_nas.spaces.gates import Gates


class MobileNetwork(nn.Module):
    """3x3 convolution, stages of blocks, head; it resizes images (N, C, H, W) to its resolution and gives logits.

    Args:
        form: of the largest network.
        sized: the sizes of this one.
    """

    def __init__(self, form: Form, sized: Sized) -> None:
        super().__init__()
        self.resolution = sized[form.resolution.name]
        self.stem = active_conv(form.in_channels, sized[form.stem.name], 3, form.stem_stride, 1, form.activation)
        self.stages = nn.ModuleList(
            nn.Sequential(*(MobileBlock(block.shape(sized)) for block in stage if block.runs(sized)))
            for stage in form.stages
        )
        last, features = sized[form.last.name], sized[form.mix.name]
        self.head = MobileHead(last, features, form.num_classes, form.dropout, form.activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(resized(x, self.resolution))
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(x)
        return logits

    def extra_repr(self) -> str:
        return f"resolution={self.resolution}"


class Running:
    """What of each number runs under some gates.

    Args:
        form: of the largest network.
        gates: one group for each number that is searched, called as :func:`group_of` says.

    Attributes:
        values: of each number, ascending.
        weights: of these values by number; none for a number that is fixed, and none at all under one path.
        sized: the largest of the values.
    """

    def __init__(self, form: Form, gates: Gates) -> None:
        searched = [number for number in form.numbers if number.is_searched]
        active = {number.name: gates.active[group_of(number)][0] for number in searched}
        self.weights = dict[str, Tensor]()
        if not gates.one_path:
            rows = [gates.values[group_of(number)][0] for number in searched]
            nonzero = torch.split(torch.cat([row.detach() for row in rows]).ne(0).cpu(), [len(row) for row in rows])
            for number, row, on in zip(searched, rows, nonzero, strict=True):
                told = on.tolist()
                active[number.name] = tuple(i for i in active[number.name] if told[i]) or active[number.name]
                self.weights[number.name] = torch.stack([row[i] for i in active[number.name]])
        self.values = {
            number.name: tuple(number.values[i] for i in active.get(number.name, (0,))) for number in form.numbers
        }
        self.sized: Sized = {name: max(values) for name, values in self.values.items()}

    def weighed(self, number: Number) -> list[tuple[int, Tensor | None]]:
        """The values that run with their weights; None for the weight of what runs alone."""
        weights = self.weights.get(number.name)
        return [(v, None if weights is None else weights[i]) for i, v in enumerate(self.values[number.name])]

    def mask(
        self,
        numbers: tuple[Number, ...],
        width: Callable[..., int],
        kept: Callable[..., bool] = lambda *values: True,
    ) -> Tensor | None:
        """(channels,): for each channel the weight of the combinations of values that have it.

        Args:
            numbers: that decide the width.
            width: of a combination of their values.
            kept: whether a combination counts.

        Returns:
            None if the numbers have no weights, or no combination counts.
        """
        rows = [self.weights[n.name] for n in numbers if n.name in self.weights]
        combinations = list(itertools.product(*(self.values[n.name] for n in numbers)))
        counted = [i for i, values in enumerate(combinations) if kept(*values)]
        if not rows or not counted:
            return None
        weights = rows[0]
        for row in rows[1:]:
            weights = (weights[:, None] * row).flatten()
        widths = torch.tensor([width(*combinations[i]) for i in counted], device=weights.device)
        places = torch.arange(int(max(width(*values) for values in combinations)), device=weights.device)
        found = (weights[counted, None] * (places < widths[:, None])).sum(0)
        return found[: int(widths.max())]


def group_of(number: Number) -> str:
    """The group of gates of a number.

    >>> group_of(Number("stage_1.width", (16, 24)))
    'stage_1_width'
    """
    return number.name.replace(".", "_")


class ElasticSupernet(Supernet):
    """All smaller networks of the largest in one.

    Under one path the network of the gates runs on slices of the weights. Under other gates the largest that has a
    gate runs, and what reads channels, kernels, shortcuts, the outputs of the depths of a stage and the logits of the
    resolutions are weighed with the gates: channel ``c`` by the sum of the gates of the widths above ``c``. So one-hot
    gates are the smaller network itself.

    Args:
        form: of the largest network.
    """

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        largest = form.largest
        self.stem = active_conv(form.in_channels, form.stem.largest, 3, form.stem_stride, 1, form.activation)
        self.stages = nn.ModuleList(nn.ModuleList(self._block(block) for block in stage) for stage in form.stages)
        head = (largest[form.last.name], form.mix.largest, form.num_classes)
        self.head = ElasticHead(*head, form.dropout, form.activation)

    def _block(self, block: Block) -> ElasticBlock:
        pairs = itertools.product(block.reads.values, block.makes.values)
        projects = block.reads is not block.makes and any(reads != makes for reads, makes in pairs)
        shape = block.shape(self.form.largest)
        return ElasticBlock(shape, block.kernel.values, learned=self.form.learned, projects=projects)

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        running = Running(self.form, gates)
        total: Tensor | None = None
        for side, weight in running.weighed(self.form.resolution):
            logits = self._at(resized(x, side), running)
            logits = logits if weight is None else weight.to(logits.dtype) * logits
            total = logits if total is None else total + logits
        assert total is not None
        return total

    def _at(self, x: Tensor, running: Running) -> Tensor:
        form, sized = self.form, running.sized
        x = normed(convolved(x, self.stem.conv, sized[form.stem.name]), self.stem)
        stages: Any = self.stages
        for blocks, stage in zip(form.stages, stages, strict=True):
            weighed = dict(running.weighed(blocks[0].depth))
            total: Tensor | None = None
            for block, module in zip(blocks[: max(weighed)], stage, strict=False):
                mixed = self._mixed(block, running) if running.weights else None
                x = module.run(x, block.shape(sized), mixed)
                if (weight := weighed.get(block.place + 1)) is not None:
                    total = weight.to(x.dtype) * x if total is None else total + weight.to(x.dtype) * x
            x = x if total is None else total
        reads, made = (running.mask((number,), lambda width: width) for number in (form.last, form.mix))
        return self.head.run(x, sized[form.mix.name], reads, made)

    def _mixed(self, block: Block, running: Running) -> Mixed:
        wide, widths = (block.reads, block.expansion), (block.reads, block.makes)
        crosses = block.projects and block.reads is not block.makes
        kernels = running.weighed(block.kernel)
        projected = running.mask(widths, lambda a, b: a, lambda a, b: a != b) if crosses else None
        return Mixed(
            read=running.mask((block.reads,), lambda width: width),
            hidden=running.mask(wide, hidden),
            squeezed=running.mask(wide, squeezed),
            kernels=tuple((size, weight) for size, weight in kernels if weight is not None),
            passing=running.mask(widths, lambda a, b: a, lambda a, b: a == b) if crosses else None,
            projected=projected,
        )


def extracted(supernet: ElasticSupernet, sized: Sized) -> MobileNetwork:
    """The stand-alone network of some sizes with a copy of the shared weights and batch-norm statistics."""
    network = MobileNetwork(supernet.form, sized).to(next(supernet.parameters()))
    shared, wanted = supernet.state_dict(), network.state_dict()
    kernels = _kernels(supernet, sized)
    network.load_state_dict({name: kernels.get(name, _first(shared, name, value)) for name, value in wanted.items()})
    return network


def _first(shared: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """The first entries of a shared tensor along each axis, as many as another has; the centre of a kernel."""
    whole = shared[name][tuple(slice(size) for size in like.shape[:2])]
    return centre(whole, like.shape[-1]) if like.dim() == 4 else whole


def _kernels(supernet: ElasticSupernet, sized: Sized) -> dict[str, Tensor]:
    """The depthwise kernels of the blocks of a network, by name."""
    found = dict[str, Tensor]()
    for block in supernet.form.blocks:
        if block.runs(sized):
            stage = supernet.stages[block.stage]
            assert isinstance(stage, nn.ModuleList)
            module, shape = stage[block.place], block.shape(sized)
            assert isinstance(module, ElasticBlock)
            kernel = module.kernel(shape.hidden, shape.kernel).detach()
            found[f"stages.{block.stage}.{block.place}.depthwise.conv.weight"] = kernel
    return found
