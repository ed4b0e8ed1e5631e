"""Base class of elastic mobile spaces: widths, depths, kernels, expansions and resolutions of one largest network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import networkx as nx
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ops.mixed import Mix
from lightning_nas.spaces.base import Keys, Operation, Supernet, Taken, WeightSharingSpace, no_auxiliary
from lightning_nas.spaces.chain import chain_graph
from lightning_nas.spaces.elastic.layers import MobileBlock, MobileHead, active_conv
from lightning_nas.spaces.elastic.networks import ElasticSupernet, MobileNetwork, extracted, group_of
from lightning_nas.spaces.elastic.shapes import Block, Form, Number, Sized
from lightning_nas.spaces.gates import Gates, Joint
from lightning_nas.spaces.sizes import classes_of

SMALLEST = 4  # pixels


@dataclass(frozen=True)
class Part:
    """A part of the network that costs something: its first convolution, a block, its head.

    Attributes:
        numbers: that its cost follows.
        operation: cost key and operation in some sizes.
        depth: (of its stage, place) of a block that may be left out.
    """

    numbers: tuple[Number, ...]
    operation: Callable[[Sized], tuple[str, Operation]]
    depth: tuple[Number, int] | None = None

    def sizes(self) -> Iterator[dict[str, int]]:
        """Every combination of its numbers."""
        for values in itertools.product(*(number.values for number in self.numbers)):
            yield dict(zip((number.name for number in self.numbers), values, strict=True))


class ElasticSpace(WeightSharingSpace):
    """Mobile networks that are parts of one largest network, whose weights they share.

    Args:
        name: name of the space, which its architectures carry.
        form: the largest network, and what is searched of it.

    Raises:
        InputError: nothing is searched, or images are too small.
    """

    mixes = False
    nests = True

    def __init__(self, name: str, form: Form) -> None:
        if form.resolution.values[0] < SMALLEST:
            raise InputError(
                f"the space {name!r} needs images of at least {SMALLEST} pixels, got {form.resolution.values[0]}"
            )
        self.name, self.form = name, form
        self.input_shape = (form.in_channels, form.image_size, form.image_size)
        self.num_classes = form.num_classes
        self.decisions = tuple(
            Decision(number.name, tuple(map(str, number.values))) for number in form.numbers if number.is_searched
        )
        if not self.decisions:
            raise InputError(f"the space {name!r} has one network; give some stage several widths, depths or kernels")
        self._numbers = {number.name: number for number in form.numbers}
        self.gate_options = {group_of(self._numbers[d.name]): d.options for d in self.decisions}
        self.gate_shapes = {group: (1, len(options)) for group, options in self.gate_options.items()}

    # -- architectures ------------------------------------------------------------------------------------------

    @property
    def smallest(self) -> Architecture:
        """The architecture with the smallest number of every decision."""
        return self.canonical(self.validate({d.name: d.options[0] for d in self.decisions}))

    @property
    def largest(self) -> Architecture:
        """The architecture with the largest number of every decision, of which all others are parts."""
        return self.validate({d.name: d.options[-1] for d in self.decisions})

    @property
    def middle(self) -> Architecture:
        """The architecture with the middle number of every decision."""
        return self.canonical(self.validate({d.name: d.options[len(d.options) // 2] for d in self.decisions}))

    def sized(self, architecture: Architecture) -> Sized:
        """The value of every number, those that are fixed included."""
        chosen = dict(self.validate(architecture).choices)
        return {n.name: int(chosen.get(n.name, n.largest)) for n in self.form.numbers}

    def canonical(self, architecture: Architecture) -> Architecture:
        """Give decisions that only concern blocks which the network does not have their largest number."""
        chosen, sized = dict(architecture.choices), self.sized(architecture)
        for number, blocks in self._concerned.items():
            if number.name in chosen and not any(block.runs(sized) for block in blocks):
                chosen[number.name] = str(number.largest)
        return self.validate(chosen)

    @cached_property
    def _concerned(self) -> dict[Number, list[Block]]:
        """The blocks whose kernel or expansion a number is."""
        found = dict[Number, list[Block]]()
        for block in self.form.blocks:
            for number in (block.kernel, block.expansion):
                found.setdefault(number, []).append(block)
        return found

    # -- networks -----------------------------------------------------------------------------------------------

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> MobileNetwork:
        """The network of an architecture, in layers of torch, with fresh weights."""
        no_auxiliary(self, auxiliary)
        form = self.form.with_classes(classes_of(num_classes, self.num_classes))
        return MobileNetwork(form, self.sized(architecture))

    def supernet(self, mix: Mix | None = None) -> ElasticSupernet:
        """The largest network with fresh weights, whose slices are all others.

        Raises:
            InputError: ``mix`` is given: options are slices of one weight, not modules that could be mixed otherwise.
        """
        if mix is not None:
            raise InputError(
                f"options of {self.name} are slices of one weight, so a method cannot mix them its own way; search it "
                "with spos, bignas, enas, random_ws, fbnet, gdas, snas or darts, or with a trial strategy"
            )
        return ElasticSupernet(self.form)

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows, one group for each decision."""
        options = zip(self.decisions, self.validate(architecture).options, strict=True)
        chosen = {group_of(self._numbers[d.name]): [d.options.index(option)] for d, option in options}
        return Gates.one_hot(chosen, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """The most probable number of every decision."""
        rows = {d.name: probabilities[group_of(self._numbers[d.name])][0] for d in self.decisions}
        return self.canonical(self.validate({d.name: d.options[int(rows[d.name].argmax())] for d in self.decisions}))

    def extract(self, supernet: Supernet, architecture: Architecture) -> nn.Module:
        """The network of an architecture with a copy of the supernet's weights and batch-norm statistics."""
        assert isinstance(supernet, ElasticSupernet)
        return extracted(supernet, self.sized(architecture))

    def parts(self) -> tuple[tuple[Taken, ...], ...]:
        """A decision is a part; the depth of a stage makes one with the decisions of blocks that it leaves out."""
        found, together = list[tuple[Taken, ...]](), dict[str, list[tuple[Number, int]]]()
        for number, blocks in self._concerned.items():
            if number.is_searched and all(b.place >= b.depth.values[0] for b in blocks):
                together.setdefault(blocks[0].depth.name, []).append((number, min(b.place for b in blocks)))
        inside = {number.name for members in together.values() for number, _ in members}
        for decision in self.decisions:
            if decision.name not in inside:
                members = together.get(decision.name, [])
                found.append(tuple(_alternatives(self._numbers[decision.name], members)))
        return tuple(found)

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """A chain: input, first convolution, blocks, head."""
        sized, form = self.sized(architecture), self.form
        sides = form.sides(sized[form.resolution.name])
        nodes = [("input", f"{form.in_channels}x{sized[form.resolution.name]}x{sized[form.resolution.name]}")]
        nodes.append(("stem", f"conv 3x3\n{sized[form.stem.name]}x{sides[0]}x{sides[0]}"))
        for block, side in zip(form.blocks, sides[1:], strict=True):
            if block.runs(sized):
                shape = block.shape(sized)
                excite = "_se" if shape.excite else ""
                text = f"k{shape.kernel}_e{shape.expansion}{excite}\n{shape.out_channels}x{side}x{side}"
                nodes.append((f"stage {block.stage + 1}, block {block.place + 1}", text))
        nodes.append(("head", f"conv 1x1, pool, conv 1x1\n{sized[form.mix.name]} -> {form.num_classes}"))
        return chain_graph(nodes)

    # -- cost ---------------------------------------------------------------------------------------------------

    @cached_property
    def _parts(self) -> list[Part]:
        form = self.form
        made = [Part((form.resolution, form.stem), partial(_stem, form))]
        for number, block in enumerate(form.blocks):
            depth = (block.depth, block.place) if block.place >= block.depth.values[0] else None
            made.append(Part((form.resolution, *block.sizes), partial(_block, form, number), depth))
        return [*made, Part((form.resolution, form.last, form.mix), partial(_head, form))]

    @cached_property
    def _priced(self) -> list[dict[tuple[int, ...], tuple[str, Operation]]]:
        """For each part, key and operation by the values of its numbers."""
        return [{tuple(s.values()): part.operation(s) for s in part.sizes()} for part in self._parts]

    def operations(self) -> dict[str, Operation]:
        """The first convolution, every block and the head in all their sizes."""
        return dict(entry for made in self._priced for entry in made.values())

    def cost_keys(self, architecture: Architecture) -> Keys:
        """The first convolution, the blocks that run, and the head."""
        sized, keys = self.sized(architecture), list[str]()
        for part, made in zip(self._parts, self._priced, strict=True):
            if part.depth is None or sized[part.depth[0].name] > part.depth[1]:
                keys.append(made[tuple(sized[n.name] for n in part.numbers)][0])
        return tuple(keys)

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """Parts that nothing changes; all others are joint costs."""
        always = zip(self._parts, self._priced, strict=True)
        fixed = tuple(made[next(iter(made))][0] for part, made in always if not self._searched(part))
        return fixed, {group: (((),) * count,) for group, (_, count) in self.gate_shapes.items()}

    def joint_keys(self) -> tuple[Joint, ...]:
        """Each part in each size."""
        found = list[Joint]()
        for part, made in zip(self._parts, self._priced, strict=True):
            if not self._searched(part):
                continue
            for values, (key, _) in made.items():
                pairs = zip(part.numbers, values, strict=True)
                gates = [(group_of(n), 0, n.values.index(v)) for n, v in pairs if n.is_searched]
                depths = [None] if part.depth is None else _reaching(*part.depth)
                found += [Joint((key,), (*gates, *([] if d is None else [d])), "all") for d in depths]
        return tuple(found)

    @staticmethod
    def _searched(part: Part) -> bool:
        return part.depth is not None or any(number.is_searched for number in part.numbers)


def _reaching(depth: Number, place: int) -> Sequence[tuple[str, int, int] | None]:
    """Gates of the depths under which the block of a place runs."""
    return [(group_of(depth), 0, i) for i, value in enumerate(depth.values) if value > place]


def _alternatives(depth: Number, members: Sequence[tuple[Number, int]]) -> Iterator[Taken]:
    """Every combination of a depth and the numbers of blocks, of which those that do not run have their largest."""
    for i, value in enumerate(depth.values):
        own = [range(len(n.values)) if place < value else [len(n.values) - 1] for n, place in members]
        for chosen in itertools.product(*own):
            taken = [(group_of(n), 0, option) for (n, _), option in zip(members, chosen, strict=True)]
            yield ((group_of(depth), 0, i), *taken)


def _stem(form: Form, sized: Sized) -> tuple[str, Operation]:
    side, width = sized[form.resolution.name], sized[form.stem.name]
    build = partial(active_conv, form.in_channels, width, 3, form.stem_stride, 1, form.activation)
    key = f"stem {form.in_channels}x{side}x{side} -> {width} /{form.stem_stride}"
    return key, Operation(build, (form.in_channels, side, side))


def _block(form: Form, number: int, sized: Sized) -> tuple[str, Operation]:
    shape = form.blocks[number].shape({form.blocks[number].depth.name: 0, **sized})
    side = form.sides(sized[form.resolution.name])[number]
    return shape.key(side), Operation(partial(MobileBlock, shape), (shape.in_channels, side, side))


def _head(form: Form, sized: Sized) -> tuple[str, Operation]:
    side, last, features = form.sides(sized[form.resolution.name])[-1], sized[form.last.name], sized[form.mix.name]
    build = partial(MobileHead, last, features, form.num_classes, form.dropout, form.activation)
    return f"head {last}x{side}x{side} -> {features} -> {form.num_classes}", Operation(build, (last, side, side))
