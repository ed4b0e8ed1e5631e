"""Parts of a network whose parameters are cut to their first entries, and mixtures of such cuts.

Axes of parameters are named by what they count: ``embed`` (the width between layers), ``heads`` (the channels of all
heads), ``thirds`` (three times these), ``hidden`` (the units inside an MLP). A part runs with any lengths of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

Axes = tuple[str | None, ...]
EMBED, HEADS, THIRDS, HIDDEN = "embed", "heads", "thirds", "hidden"


class Sliced(nn.Module):
    """Part of a network that runs with the first entries of its parameters.

    Attributes:
        axes: what each axis of each parameter counts, by name; None for an axis of one length.
    """

    axes: ClassVar[Mapping[str, Axes]]


@dataclass(frozen=True)
class Mixture:
    """Gates of several lengths that run at once.

    Attributes:
        widths: (E,), the gate of each embedding.
        masks: for each axis (E, length): under each embedding, the sum of the gates of the lengths above each place.
        gates: (O,), those of the options of a layer.
        lengths: of each of these options, under the first embedding.
    """

    widths: Tensor
    masks: Mapping[str, Tensor]
    gates: Tensor
    lengths: Sequence[int]

    def factor(self, axes: Axes) -> Tensor | None:
        r"""Factor of a parameter: the sum of the gates of all options whose slice has the entry.

        So the product is :math:`\sum_o g_o \, \mathrm{pad}(W_o)`, the weighted sum of all slices padded with zeros
        (TangleNAS, arXiv:2312.10440). None for a parameter of one size.
        """
        named = [axis for axis in axes if axis is not None]
        if not named:
            return None
        if named == [HEADS]:  # of one size under all embeddings
            found = self.masks[HEADS][0]
        else:
            letters = "ab"[: len(named)]
            terms = ",".join(f"e{letter}" for letter in letters)
            found = torch.einsum(f"e,{terms}->{letters}", self.widths, *(self.masks[axis] for axis in named))
        lengths = iter(found.shape)
        return found.reshape([1 if axis is None else next(lengths) for axis in axes])

    def thirds(self, row: Tensor) -> Tensor:
        """Weighted sum of the first entries of a row, each in three parts that are padded to the longest option's."""
        most = max(self.lengths)
        padded = [F.pad(row[: 3 * length].reshape(3, length), (0, most - length)) for length in self.lengths]
        return torch.einsum("o,otc->tc", self.gates.to(row.dtype), torch.stack(padded)).flatten()


def cut(part: Sliced, lengths: Mapping[str, int], mixture: Mixture | None = None) -> dict[str, Tensor]:
    """The first entries of the parameters of a part, which are views; scaled if several lengths run at once.

    Args:
        part: the part.
        lengths: of each axis.
        mixture: the gates of these lengths and shorter ones.
    """
    found = {}
    for name, weight in part.named_parameters():
        axes = part.axes[name]
        if axes == (THIRDS,):
            found[name] = weight[: 3 * lengths[HEADS]] if mixture is None else mixture.thirds(weight)
            continue
        kept = weight[tuple(slice(None) if axis is None else slice(lengths[axis]) for axis in axes)]
        factor = None if mixture is None else mixture.factor(axes)
        found[name] = kept if factor is None else kept * factor.to(kept.dtype)
    return found


def run(part: Sliced, x: Tensor, lengths: Mapping[str, int], mixture: Mixture | None = None) -> Tensor:
    """Run a part with the first entries of its parameters."""
    y: Any = functional_call(part, cut(part, lengths, mixture), (x,))
    assert isinstance(y, Tensor)
    return y


def reach(gates: Tensor, lengths: Sequence[int], most: int) -> Tensor:
    """Sum of the gates of the lengths above each place, (most,).

    >>> reach(torch.tensor([0.25, 0.5]), [1, 3], 4).tolist()
    [0.75, 0.5, 0.5, 0.0]
    """
    places = torch.arange(most, device=gates.device)
    return torch.stack([gate * (places < length) for gate, length in zip(gates, lengths, strict=True)]).sum(0)
