"""A network that resizes its images before it runs, and the sizes that are a decision."""

from __future__ import annotations

import copyreg
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.ops.outputs import logits_of

RESOLUTION = "resolution"
"""Name of the decision."""

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Resolution:
    """The height and width at which a network runs.

    Attributes:
        options: by number of pixels, ascending.
        sizes: (height, width) of each option; None for the last, the images as they come.
        name: of the decision.
    """

    options: tuple[str, ...]
    sizes: tuple[Size | None, ...]
    name: str = RESOLUTION

    @property
    def paths(self) -> tuple[str, ...]:
        """The module that it changes: the whole one."""
        return ("",)


class Resizing(nn.Module):
    """A module that resizes images before it runs; it comes before the module's own class, so that names stay.

    The resizing is bilinear and antialiased, as that of torchvision's transforms.

    Attributes:
        input_size: (height, width) at which the module runs; None for the images as they come.
        mixed: weights of the outputs at several sizes, in place of ``input_size``; None to run once.
        resolution: all sizes; None in a network that has one.
    """

    input_size: Size | None = None
    mixed: Mapping[Size | None, Tensor] | None = None
    resolution: Resolution | None = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the module's own."""
        if self.mixed is None:
            return super().forward(resized(x, self.input_size), *args, **kwargs)
        total: Any = 0
        for size, weight in self.mixed.items():
            y = logits_of(super().forward(resized(x, size), *args, **kwargs))
            total = total + weight.to(y.dtype) * y
        return total

    def extra_repr(self) -> str:
        said = super().extra_repr()
        return said if self.input_size is None else ", ".join(filter(None, [said, f"input_size={self.input_size}"]))

    def __reduce_ex__(self, protocol: Any) -> Any:
        told: Any = super().__reduce_ex__(protocol)
        made, arguments, *rest = told
        kind = vars(type(self)).get("resized_kind")
        if kind is None or made is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return made, arguments, *rest
        return _blank, (kind,), *rest  # the class has no name of its own, by which pickle would find it


def resized(x: Tensor, size: Size | None) -> Tensor:
    """Images (N, C, H, W) at another size; None leaves them as they are.

    >>> resized(torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]]), (1, 1))
    tensor([[[[3.]]]])
    """
    if size is None:
        return x
    if x.dtype in (torch.float16, torch.bfloat16):  # torch has no antialiased resizing of these on processors
        return resized(x.float(), size).to(x.dtype)
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)


@functools.cache
def _resizing(kind: Any) -> Any:
    named = {"__module__": __name__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__ or kind.__name__}
    return type(kind.__name__, (Resizing, kind), {**named, "resized_kind": kind})


def _blank(kind: Any) -> Any:
    made = _resizing(kind)
    return made.__new__(made)


def resize(network: nn.Module, resolution: Resolution | None) -> None:
    """Let a network run at each size of a decision; the network is changed, unless there is no such decision."""
    if resolution is not None:
        own: Any = type(network)
        network.__class__ = _resizing(own)
        vars(network)["resolution"] = resolution


def settle(network: nn.Module) -> None:
    """Leave a network the size that it has now, and its own class if that is the original; the network is changed."""
    if isinstance(network, Resizing):
        vars(network).pop("resolution", None)
        vars(network).pop("mixed", None)
        if network.input_size is None:
            vars(network).pop("input_size", None)
            network.__class__ = type(network).resized_kind  # type: ignore[attr-defined]
