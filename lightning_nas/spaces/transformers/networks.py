"""AutoFormer's vision transformer: its parts, the stand-alone network and the supernet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.ops.cells import DropPath
from lightning_nas.spaces.base import Supernet
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.sides import Size, pair
from lightning_nas.spaces.transformers.slices import (
    EMBED,
    HEADS,
    HIDDEN,
    THIRDS,
    Axes,
    Mixture,
    Sliced,
    cut,
    reach,
    run,
)

_STD = 0.02  # of normal weights; all are cut at 2 and -2, as torch's
_NORM = {"norm.weight": (EMBED,), "norm.bias": (EMBED,)}


@dataclass(frozen=True)
class Frame:
    """What no decision changes.

    Attributes:
        in_channels: channels of the images.
        image_size: height and width of the images.
        patch: height and width of a patch.
        num_classes: width of the classifier.
        head_dim: channels of a head.
        distance: rows and columns between two patches above which their relative position is that of this distance.
        depth: most layers.
        scaled: whether fresh weights have the deviation 1 / sqrt(inputs), and positions 1; else both have 0.02.
    """

    in_channels: int
    image_size: Size
    patch: int
    num_classes: int
    head_dim: int
    distance: int
    depth: int
    scaled: bool

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return pair(self.image_size // self.patch)

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return self.grid[0] * self.grid[1] + 1


@dataclass(frozen=True)
class Shape:
    """Sizes of a network.

    Attributes:
        embed: width between the layers.
        heads: heads of each layer.
        hidden: units inside the MLP of each layer.
    """

    embed: int
    heads: tuple[int, ...]
    hidden: tuple[int, ...]


class Norm(nn.LayerNorm):
    """Layer norm over as many channels as its weight has."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def linear(frame: Frame, inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear layer with normal weights and zero biases."""
    made = nn.Linear(inputs, outputs, bias)
    nn.init.trunc_normal_(made.weight, std=inputs**-0.5 if frame.scaled else _STD)
    if bias:
        nn.init.zeros_(made.bias)
    return made


def _normal(*shape: int, std: float = _STD) -> nn.Parameter:
    made = nn.Parameter(torch.empty(shape))
    nn.init.trunc_normal_(made, std=std)
    return made


class Patches(Sliced):
    """Images (N, C, H, W) to tokens (N, T, embed): the class token, then a linear map of each patch; with positions.

    Rows and columns at the end that do not fill a patch are left out.
    """

    axes: ClassVar[Mapping[str, Axes]] = {
        "token": (None, None, EMBED),
        "position": (None, None, EMBED),
        "projection.weight": (EMBED, None, None, None),
        "projection.bias": (EMBED,),
    }

    def __init__(self, frame: Frame, embed: int) -> None:
        super().__init__()
        std = 1.0 if frame.scaled else _STD
        self.token, self.position = _normal(1, 1, embed), _normal(1, frame.tokens, embed, std=std)
        self.projection = nn.Conv2d(frame.in_channels, embed, frame.patch, frame.patch)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.projection(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand_as(patches[:, :1]), patches], 1) + self.position


class Positions(nn.Module):
    """Embedding (T, T, head_dim) of how many rows and columns lie between each two tokens.

    Distances are clipped; the class token has an entry of its own for all pairs that it is in.
    """

    row: Tensor
    column: Tensor

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        entries = 2 * frame.distance + 2
        self.rows, self.columns = _normal(entries, frame.head_dim), _normal(entries, frame.head_dim)
        height, width = frame.grid
        for name, places in (
            ("row", torch.arange(height).repeat_interleave(width)),
            ("column", torch.arange(width).repeat(height)),
        ):
            away = (places[None] - places[:, None]).clamp(-frame.distance, frame.distance)
            self.register_buffer(name, F.pad(away + frame.distance + 1, (1, 0, 1, 0)))

    def forward(self) -> Tensor:
        return self.rows[self.row] + self.columns[self.column]


class Attention(Sliced):
    r"""Residual self-attention (N, T, embed) with relative positions of keys and values (Shaw et al., 1803.02155).

    .. math:: A_{ij} = \mathrm{softmax}_j \frac{q_i^\top (k_j + r_{ij})}{\sqrt{d}}, \quad
        y_i = \sum_j A_{ij} (v_j + s_{ij})

    Heads have ``head_dim`` channels, whatever the width of the input. Biases of queries, keys and values are one row,
    of which fewer heads take the first entries, as in the authors' code: thirds of it are of other sizes then.
    """

    axes: ClassVar[Mapping[str, Axes]] = {
        **_NORM,
        **{f"{name}.weight": (HEADS, EMBED) for name in ("query", "key", "value")},
        "bias": (THIRDS,),
        **{f"{name}.{table}": (None, None) for name in ("keys", "values") for table in ("rows", "columns")},
        "out.weight": (EMBED, HEADS),
        "out.bias": (EMBED,),
    }

    def __init__(self, frame: Frame, embed: int, heads: int, share: float = 0.0) -> None:
        super().__init__()
        self.head_dim = frame.head_dim
        self.norm = Norm(embed)
        self.query, self.key, self.value = (linear(frame, embed, heads * frame.head_dim, bias=False) for _ in range(3))
        self.bias = nn.Parameter(torch.zeros(3 * heads * frame.head_dim))
        self.keys, self.values = Positions(frame), Positions(frame)
        self.out = linear(frame, heads * frame.head_dim, embed)
        self.drop_path = DropPath(share)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        projected = zip((self.query, self.key, self.value), self.bias.chunk(3), strict=True)
        query, key, value = (
            torch.unflatten(F.linear(y, layer.weight, bias), -1, (-1, self.head_dim)).transpose(1, 2)
            for layer, bias in projected
        )
        query = query * self.head_dim**-0.5
        scores = query @ key.transpose(-2, -1) + torch.einsum("nhtd,tsd->nhts", query, self.keys())
        weights = scores.softmax(-1)
        y = weights @ value + torch.einsum("nhts,tsd->nhtd", weights, self.values())
        dropped: Tensor = self.drop_path(self.out(y.transpose(1, 2).flatten(2)))
        return x + dropped


class MLP(Sliced):
    """Residual MLP (N, T, embed) with one layer of hidden units and GELU."""

    axes: ClassVar[Mapping[str, Axes]] = {
        **_NORM,
        "expand.weight": (HIDDEN, EMBED),
        "expand.bias": (HIDDEN,),
        "shrink.weight": (EMBED, HIDDEN),
        "shrink.bias": (EMBED,),
    }

    def __init__(self, frame: Frame, embed: int, hidden: int, share: float = 0.0) -> None:
        super().__init__()
        self.norm = Norm(embed)
        self.expand, self.shrink = linear(frame, embed, hidden), linear(frame, hidden, embed)
        self.drop_path = DropPath(share)

    def forward(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.drop_path(self.shrink(F.gelu(self.expand(self.norm(x)))))
        return x + dropped


class Classifier(Sliced):
    """Tokens (N, T, embed) to logits (N, num_classes): a norm, the mean of all but the class token, a linear map."""

    axes: ClassVar[Mapping[str, Axes]] = {**_NORM, "linear.weight": (None, EMBED), "linear.bias": (None,)}

    def __init__(self, frame: Frame, embed: int) -> None:
        super().__init__()
        self.norm = Norm(embed)
        self.linear = linear(frame, embed, frame.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.norm(x)[:, 1:].mean(1))
        return logits


class AutoFormer(nn.Module):
    """Vision transformer of the given sizes: images (N, C, H, W) to logits (N, num_classes)."""

    def __init__(self, frame: Frame, shape: Shape) -> None:
        super().__init__()
        self.patches = Patches(frame, shape.embed)
        self.layers = nn.ModuleList()
        for number, (heads, hidden) in enumerate(zip(shape.heads, shape.hidden, strict=True)):
            share = number / max(1, frame.depth - 1)  # of the probability of dropping a path
            parts = {
                "attention": Attention(frame, shape.embed, heads, share),
                "mlp": MLP(frame, shape.embed, hidden, share),
            }
            self.layers.append(nn.Sequential())
            for name, part in parts.items():
                self.layers[-1].add_module(name, part)
        self.classifier = Classifier(frame, shape.embed)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.classifier(x)
        return logits


@dataclass(frozen=True)
class Options:
    """Sizes of each option of each decision.

    Attributes:
        embeds: widths between the layers.
        depths: numbers of layers.
        heads: heads of a layer.
        ratios: hidden units of a layer in units of the width.
    """

    embeds: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    ratios: tuple[float, ...]

    def hidden(self, embed: int, ratio: int) -> int:
        """Hidden units at an option of the ratio."""
        return int(self.embeds[embed] * self.ratios[ratio])


class AutoFormerSupernet(Supernet):
    r"""All networks of the space in one: a part runs with the first entries of its parameters.

    Where several options are active, each parameter is :math:`\sum_o g_o \, \mathrm{pad}(W_o)` over the combinations
    of the options that size it, padded with zeros to the largest of them, and the outputs of the layers at which a
    depth ends are summed by its gates: one forward pass. Layer norms use the statistics of the largest width.

    Args:
        frame: what no decision changes.
        shape: of the shared weights.
        options: sizes of each option.
    """

    def __init__(self, frame: Frame, shape: Shape, options: Options) -> None:
        super().__init__()
        self.network = AutoFormer(frame, shape)
        self.head_dim, self.options = frame.head_dim, options

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        active = _running(gates)
        options, rows = self.options, None if gates.one_path else gates.values
        widths = active["embed"][0]
        lengths = {EMBED: options.embeds[max(widths)]}
        masks = None
        if rows is not None:
            row = rows["embed"][0][list(widths)]
            places = torch.arange(lengths[EMBED], device=row.device)
            counts = torch.tensor([options.embeds[i] for i in widths], device=row.device)
            masks = Mixture(row, {EMBED: (places < counts[:, None]).to(row.dtype)}, row[:0], ())
        x = run(self.network.patches, x, lengths, masks)
        ends = {options.depths[i]: i for i in active["depth"][0]}
        total: Tensor | None = None
        for number in range(max(ends)):
            parts = self.network.layers[number]
            for name, part in parts.named_children():
                sized, mixture = self._sized(name, number, widths, active, lengths, masks, rows)
                x = run(part, x, sized, mixture)  # type: ignore[arg-type]
            if number + 1 in ends and rows is not None:
                ended = rows["depth"][0, ends[number + 1]].to(x.dtype) * x
                total = ended if total is None else total + ended
        return run(self.network.classifier, x if total is None else total, lengths, masks)

    def _sized(
        self,
        name: str,
        number: int,
        widths: Sequence[int],
        active: Mapping[str, tuple[tuple[int, ...], ...]],
        lengths: Mapping[str, int],
        masks: Mixture | None,
        rows: Mapping[str, Tensor] | None,
    ) -> tuple[dict[str, int], Mixture | None]:
        """Lengths and gates of the attention or the MLP of a layer."""
        group, axis = ("heads", HEADS) if name == "attention" else ("ratio", HIDDEN)
        chosen = active[group][number]
        each = [  # for each width, the length of each option
            [self.options.heads[i] * self.head_dim if axis == HEADS else self.options.hidden(width, i) for i in chosen]
            for width in widths
        ]
        most = max(max(row) for row in each)
        if masks is None or rows is None:
            return {**lengths, axis: most}, None
        gates = rows[group][number][list(chosen)]
        mask = torch.stack([reach(gates, row, most) for row in each])
        return {**lengths, axis: most}, Mixture(masks.widths, {**masks.masks, axis: mask}, gates, each[0])

    def state_of(self, shape: Shape) -> dict[str, Tensor]:
        """The weights of the network of the given sizes, by its names."""
        network, lengths, found = self.network, {EMBED: shape.embed}, dict[str, Tensor]()
        parts: list[tuple[str, Sliced, dict[str, int]]] = [
            ("patches", network.patches, lengths),
            ("classifier", network.classifier, lengths),
        ]
        for number, (heads, hidden) in enumerate(zip(shape.heads, shape.hidden, strict=True)):
            sized = {**lengths, HEADS: heads * self.head_dim, HIDDEN: hidden}
            for name, part in network.layers[number].named_children():
                parts.append((f"layers.{number}.{name}", part, sized))  # type: ignore[arg-type]
        for prefix, part, sized in parts:
            found |= {f"{prefix}.{name}": weight.detach() for name, weight in cut(part, sized).items()}
        return found


def _running(gates: Gates) -> Mapping[str, tuple[tuple[int, ...], ...]]:
    """The active options of each choice whose gates are not zero; one wait for the device."""
    if gates.one_path:
        return gates.active
    groups = list(gates.values)
    flat = torch.cat([gates.values[group].detach().flatten() for group in groups])
    on = iter(torch.split((flat != 0).cpu(), [gates.values[group].numel() for group in groups]))
    found = {}
    for group in groups:
        rows = next(on).reshape(gates.values[group].shape).tolist()
        pairs = zip(gates.active[group], rows, strict=True)
        found[group] = tuple(tuple(i for i in active if row[i]) or active for active, row in pairs)
    return found
