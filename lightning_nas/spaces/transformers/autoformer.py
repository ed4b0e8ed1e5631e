r"""AutoFormer's search spaces (Chen et al., ICCV 2021, arXiv:2107.00651): vision transformers of elastic sizes.

The width between the layers, the number of layers, and for each layer the heads and the hidden units of the MLP are
searched. All networks share their weights: a smaller one has the first entries of a larger one's ("weight
entanglement").

Settings of the authors' published models (microsoft/Cream, AutoFormer): biases of queries, keys and values; heads of 64
channels, so that their channels follow the heads and not the width; relative positions of keys and values; absolute
positions; the mean of the patches, not the class token, is classified.

Differs from the authors' code: queries, keys and values are three matrices, where theirs is one with interleaved rows
(row :math:`3i + j` there is row :math:`i` of matrix :math:`j` here), so the entries that networks share are the same.
The supernet drops no paths; retraining does with ``retrain.drop_path``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any, Literal

import networkx as nx
from annotated_types import Interval, Len
from pydantic import PositiveInt
from torch import Tensor

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError, shown
from lightning_nas.ops.mixed import Mix
from lightning_nas.ranges import Depth, Side, Width
from lightning_nas.spaces.base import Keys, Operation, Supernet, Taken, WeightSharingSpace, no_auxiliary
from lightning_nas.spaces.chain import chain_graph
from lightning_nas.spaces.gates import Gates, Joint
from lightning_nas.spaces.sides import ImageSize, by, pair, size_of
from lightning_nas.spaces.sizes import InputShape, classes_of, sized_by_images
from lightning_nas.spaces.transformers.networks import (
    MLP,
    Attention,
    AutoFormer,
    AutoFormerSupernet,
    Classifier,
    Frame,
    Options,
    Patches,
    Shape,
)
from lightning_nas.spaces.transformers.presets import Preset, fitted

_MOST = 20_000  # combinations of a depth and of the layers that it may leave out
_MEANINGS = {"e": "width {}", "d": "{} layers", "h": "{} heads", "r": "hidden units: {} times the width"}

Widths = Annotated[Sequence[Width], Len(1, 100)]
Heads = Annotated[Sequence[Annotated[int, Interval(ge=1, le=1024)]], Len(1, 100)]
Depths = Annotated[Sequence[Depth], Len(1, 100)]
Ratios = Annotated[Sequence[Annotated[float, Interval(gt=0, le=64)]], Len(1, 100)]


class AutoFormerSpace(WeightSharingSpace):
    r"""Vision transformers of elastic width, depth, heads and MLP ratio: AutoFormer (arXiv:2107.00651, section 3).

    Decisions are ``embed`` (one width for the network: ``e384``), ``depth`` (``d13``), and for every layer that the
    depth has ``layer_01.heads`` (``h6``) and ``layer_01.ratio`` (``r3.5``: hidden units of the MLP in units of the
    width). Of a network's parameters, each is made of the first entries of the shared one.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes). Gates are in the groups "embed",
    "depth", "heads" and "ratio"; the last two have a row for each layer. Multiply-adds are those of convolutions and
    linear layers; those of the attention scores are not counted.

    Sizes that are not given (None) follow ``size`` and the images: those of the paper, or for images of up to 64
    pixels an eighth of the widths, heads of 8 channels, ten layers less, 4 to 8 patches a side and larger fresh
    weights; see :func:`~lightning_nas.spaces.transformers.presets.fitted`.

    Source: Chen et al., ICCV 2021, and the authors' code (microsoft/Cream, AutoFormer), which computes the same.
    Deviations: see the top of the module's file.

    Args:
        name: name of the space, which its architectures carry.
        size: the sizes of the paper's space: tiny, small or base.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``.
        image_size: height and width of the images, at least a patch.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        embeds: widths between the layers, ascending.
        shared_embed: width of the shared weights, at least the largest of ``embeds``.
        heads: numbers of heads of a layer, ascending.
        ratios: hidden units of a layer's MLP in units of the width, ascending.
        depths: numbers of layers, ascending.
        head_dim: channels of a head.
        patch: height and width of a patch.
        distance: rows or columns between two patches from which on their relative position is one.
        scaled: whether fresh weights of linear layers have the deviation 1 / sqrt(inputs) and positions the deviation
            1; else both have the paper's 0.02, with which narrow networks need many epochs before they learn at all.

    Raises:
        InputError: options that do not ascend, shared weights narrower than a network, images below a patch, or depths
            so different that the layers between them have more than 20,000 combinations.

    Example:
        >>> space = AutoFormerSpace(size="tiny", image_size=224)
        >>> [decision.options for decision in space.decisions[:4]]
        [('e192', 'e216', 'e240'), ('d12', 'd13', 'd14'), ('h3', 'h4'), ('r3.5', 'r4')]
        >>> small = AutoFormerSpace(input_shape=(1, 8, 8), num_classes=10)
        >>> import torch
        >>> architecture = small.sample(torch.Generator().manual_seed(0))
        >>> architecture["embed"], architecture["depth"], len(architecture.options)
        ('e56', 'd2', 6)
        >>> small.meaning("r3.5")
        'hidden units: 3.5 times the width'
        >>> tuple(small.network(architecture)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 10)
    """

    mixes, nests = False, True

    @sized_by_images(small={})
    def __init__(
        self,
        name: str = "autoformer_small",
        *,
        size: Literal["tiny", "small", "base"] = "small",
        input_shape: InputShape | None = None,
        image_size: ImageSize = 224,
        in_channels: Width = 3,
        num_classes: PositiveInt = 1000,
        embeds: Widths | None = None,
        shared_embed: Width | None = None,
        heads: Heads | None = None,
        ratios: Ratios | None = None,
        depths: Depths | None = None,
        head_dim: Width | None = None,
        patch: Side | None = None,
        distance: Side | None = None,
        scaled: bool | None = None,
    ) -> None:
        sizes = fitted(size, size_of(image_size))
        given: dict[str, Any] = {"embeds": embeds, "shared_embed": shared_embed, "heads": heads, "ratios": ratios}
        given |= {"depths": depths, "head_dim": head_dim, "patch": patch, "distance": distance, "scaled": scaled}
        if embeds is not None and shared_embed is None:
            given["shared_embed"] = max(embeds)
        told = {key: value for key, value in given.items() if value is not None}
        settings: dict[str, Any] = {key: tuple(v) if isinstance(v, Sequence) else v for key, v in told.items()}
        sizes = replace(sizes, **settings)
        _check(name, sizes, size_of(image_size) < sizes.patch, image_size)
        self.made_with = {**self.made_with, **asdict(sizes)}
        self.name, self.shared_embed = name, sizes.shared_embed
        ends = (in_channels, size_of(image_size), sizes.patch, num_classes)
        self.frame = Frame(*ends, sizes.head_dim, sizes.distance, sizes.depths[-1], sizes.scaled)
        self.input_shape, self.num_classes = (in_channels, *pair(self.frame.image_size)), num_classes
        self.sizes = Options(sizes.embeds, sizes.depths, sizes.heads, sizes.ratios)
        self.gate_options = {
            "embed": tuple(f"e{width}" for width in sizes.embeds),
            "depth": tuple(f"d{depth}" for depth in sizes.depths),
            "heads": tuple(f"h{heads}" for heads in sizes.heads),
            "ratio": tuple(f"r{ratio:g}" for ratio in sizes.ratios),
        }
        self._layers = tuple(f"layer_{i:02d}" for i in range(1, self.frame.depth + 1))
        rows = {"embed": 1, "depth": 1, "heads": self.frame.depth, "ratio": self.frame.depth}
        self.gate_shapes = {group: (rows[group], len(options)) for group, options in self.gate_options.items()}
        self.decisions = (
            *(Decision(group, self.gate_options[group]) for group in ("embed", "depth")),
            *(
                Decision(f"{layer}.{group}", self.gate_options[group])
                for layer in self._layers
                for group in ("heads", "ratio")
            ),
        )

    # -- architectures ------------------------------------------------------------------------------------------

    def options(self, decision: Decision, partial: Mapping[str, str]) -> tuple[str, ...]:
        """Decisions of layers that the depth leaves out are not taken."""
        layer, _, inner = decision.name.partition(".")
        if not inner or "depth" not in partial:
            return decision.options
        return decision.options if self._layers.index(layer) < int(partial["depth"][1:]) else ()

    @property
    def smallest(self) -> Architecture:
        """The architecture with the first option of every decision."""
        return self._with(0)

    @property
    def largest(self) -> Architecture:
        """The architecture with the last option of every decision, of which all others are parts."""
        return self._with(-1)

    def _with(self, number: int) -> Architecture:
        chosen = dict[str, str]()
        for decision in self.decisions:
            if legal := self.options(decision, chosen):
                chosen[decision.name] = legal[number]
        return self.validate(chosen)

    def meaning(self, option: str) -> str:
        known = any(option in options for options in self.gate_options.values())
        return _MEANINGS[option[0]].format(option[1:]) if known else option

    def _numbers(self, architecture: Architecture) -> dict[str, list[int]]:
        """Number of the option of every choice, by group."""
        found = {group: list[int]() for group in self.gate_options}
        for name, option in self.validate(architecture).choices:
            group = name.rpartition(".")[2]
            found[group].append(self.gate_options[group].index(option))
        return found

    def _shape(self, architecture: Architecture) -> Shape:
        taken, sizes = self._numbers(architecture), self.sizes
        [embed] = taken["embed"]
        heads = tuple(sizes.heads[i] for i in taken["heads"])
        return Shape(sizes.embeds[embed], heads, tuple(sizes.hidden(embed, i) for i in taken["ratio"]))

    # -- networks -----------------------------------------------------------------------------------------------

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> AutoFormer:
        """Patches, the layers of the architecture, classifier."""
        no_auxiliary(self, auxiliary)
        classes = classes_of(num_classes, self.num_classes)
        return AutoFormer(replace(self.frame, num_classes=classes), self._shape(architecture))

    def supernet(self, mix: Mix | None = None) -> AutoFormerSupernet:
        """The transformer of the shared weights.

        Raises:
            InputError: ``mix`` is given: options are slices of one weight, not modules that could be mixed otherwise.
        """
        if mix is not None:
            raise InputError(
                f"options of {self.name} are slices of one weight, so a method cannot mix them its own way; "
                "search it with spos, enas, random_ws, fbnet, gdas, snas or darts, or with a trial strategy"
            )
        shared, sizes, layers = self.shared_embed, self.sizes, self.frame.depth
        hidden = int(shared * sizes.ratios[-1])
        return AutoFormerSupernet(self.frame, Shape(shared, (sizes.heads[-1],) * layers, (hidden,) * layers), sizes)

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows; no option runs in the layers that the depth leaves out."""
        taken = self._numbers(architecture)
        chosen = {
            group: [*taken[group], *[None] * (rows - len(taken[group]))]
            for group, (rows, _) in self.gate_shapes.items()
        }
        return Gates.one_hot(chosen, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """The most probable option of every decision."""
        best = {group: probabilities[group].argmax(-1).tolist() for group in self.gate_options}
        taken = dict[str, str]()
        for decision in self.decisions:
            if self.options(decision, taken):
                layer, _, group = decision.name.rpartition(".")
                row = self._layers.index(layer) if layer else 0
                taken[decision.name] = decision.options[best[group][row]]
        return self.validate(taken)

    def extract(self, supernet: Supernet, architecture: Architecture) -> AutoFormer:
        """The stand-alone network with a copy of the first entries of the shared weights."""
        assert isinstance(supernet, AutoFormerSupernet)
        network = self.network(architecture)
        weight = next(supernet.parameters())
        network.to(weight.device, weight.dtype)
        network.load_state_dict({**network.state_dict(), **supernet.state_of(self._shape(architecture))})
        return network

    def parts(self) -> tuple[tuple[Taken, ...], ...]:
        """The width, each decision of a layer that is always there, and the depth with those of the other layers."""
        least, counts = self.sizes.depths[0], {g: range(n) for g, (_, n) in self.gate_shapes.items()}
        alone = [("embed", 0), *((group, layer) for layer in range(least) for group in ("heads", "ratio"))]
        found = [tuple(((group, row, option),) for option in counts[group]) for group, row in alone]
        together = []
        for number, depth in enumerate(self.sizes.depths):
            choices = [(group, layer) for layer in range(least, depth) for group in ("heads", "ratio")]
            for options in itertools.product(*(counts[group] for group, _ in choices)):
                inner = ((group, row, o) for (group, row), o in zip(choices, options, strict=True))
                together.append((("depth", 0, number), *inner))
        return (*found, tuple(together))

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """A chain: patches, layers, classifier."""
        chosen, sides = dict(self.validate(architecture).choices), by(self.frame.image_size)
        layers = [
            (layer, f"{chosen[f'{layer}.heads']}\n{chosen[f'{layer}.ratio']}")
            for layer in self._layers
            if f"{layer}.heads" in chosen
        ]
        ends = ("patches", f"{sides}\n{chosen['embed']}"), ("classifier", f"classifier\n{self.num_classes}")
        return chain_graph([ends[0], *layers, ends[1]])

    # -- cost ---------------------------------------------------------------------------------------------------

    def _entry(self, group: str, embed: int, option: int = 0) -> tuple[str, Operation]:
        """Key and operation of a part: "patches" and "classifier" of a width, "heads" and "ratio" of one of a layer."""
        frame, width = self.frame, self.sizes.embeds[embed]
        tokens = f"{by(frame.image_size // frame.patch)}+1x{width}"
        shape: tuple[int, ...] = (frame.tokens, width)
        if group == "patches":
            key = f"e{width} patches {frame.in_channels}x{by(frame.image_size)} /{frame.patch}"
            return key, Operation(partial(Patches, frame, width), self.input_shape)
        if group == "classifier":
            key = f"e{width} classifier {tokens} -> {self.num_classes}"
            return key, Operation(partial(Classifier, frame, width), shape)
        if group == "heads":
            heads = self.sizes.heads[option]
            key = f"attention {tokens} h{heads}x{frame.head_dim}"
            return key, Operation(partial(Attention, frame, width, heads), shape)
        hidden = self.sizes.hidden(embed, option)
        return f"mlp {tokens} -> {hidden}", Operation(partial(MLP, frame, width, hidden), shape)

    def operations(self) -> dict[str, Operation]:
        """The ends at every width, and attention and MLP in every size."""
        found = dict[str, Operation]()
        for embed in range(len(self.sizes.embeds)):
            entries = [self._entry(part, embed) for part in ("patches", "classifier")]
            for group in ("heads", "ratio"):
                entries += [self._entry(group, embed, option) for option in range(len(self.gate_options[group]))]
            found |= dict(entries)
        return found

    def cost_keys(self, architecture: Architecture) -> Keys:
        """The parts that an architecture runs."""
        taken = self._numbers(architecture)
        [embed] = taken["embed"]
        inner = [self._entry(group, embed, option)[0] for group in ("heads", "ratio") for option in taken[group]]
        return (self._entry("patches", embed)[0], *inner, self._entry("classifier", embed)[0])

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """The ends belong to the width; all else depends on several decisions."""
        rows: dict[str, tuple[tuple[Keys, ...], ...]] = {
            group: (((),) * options,) * count for group, (count, options) in self.gate_shapes.items()
        }
        widths = range(len(self.sizes.embeds))
        rows["embed"] = (
            tuple((self._entry("patches", e)[0], self._entry("classifier", e)[0]) for e in widths),
        )  # fmt: skip
        return (), rows

    def joint_keys(self) -> tuple[Joint, ...]:
        """Attention and MLP of each layer: of the width, of the option, and of each depth that has the layer."""
        found = []
        for group in ("heads", "ratio"):
            pairs = itertools.product(range(len(self.sizes.embeds)), range(len(self.gate_options[group])))
            for embed, option in pairs:
                key = self._entry(group, embed, option)[0]
                for layer in range(self.frame.depth):
                    gates = (("embed", 0, embed), (group, layer, option))
                    if layer < self.sizes.depths[0]:
                        found.append(Joint((key,), gates, "all"))
                        continue
                    deep = [number for number, depth in enumerate(self.sizes.depths) if depth > layer]
                    found += [Joint((key,), (("depth", 0, number), *gates), "all") for number in deep]
        return tuple(found)


def _check(name: str, sizes: Preset, small: bool, image_size: object) -> None:
    """Refuse sizes that make no space."""
    for key in ("embeds", "heads", "ratios", "depths"):
        numbers = getattr(sizes, key)
        if list(numbers) != sorted(set(numbers)):
            raise InputError(f"{name}: {key} is {shown(list(numbers))}; legal: different numbers in ascending order")
    if sizes.shared_embed < sizes.embeds[-1]:
        raise InputError(
            f"{name}: shared_embed is {sizes.shared_embed}; legal: at least the largest of embeds, {sizes.embeds[-1]}"
        )
    if min(int(width * sizes.ratios[0]) for width in sizes.embeds) < 1:
        raise InputError(f"{name}: ratios has {sizes.ratios[0]}; legal: such that an MLP has a hidden unit")
    if small:
        raise InputError(f"{name} needs images of at least a patch of {sizes.patch} pixels, got {shown(image_size)}")
    each, between = len(sizes.heads) * len(sizes.ratios), sizes.depths[-1] - sizes.depths[0]
    if each**between > _MOST:
        raise InputError(
            f"{name}: depths from {sizes.depths[0]} to {sizes.depths[-1]} leave {each}^{between} combinations of the "
            f"layers between them; legal: up to {_MOST:,}, with depths that are closer or fewer heads and ratios"
        )
