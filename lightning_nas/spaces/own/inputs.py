"""The inputs of a module: one tensor, several in a row, or several by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.errors import InputError, shown
from lightning_nas.spaces.own.nested import each, replaced

_LEGAL = (
    "a tensor (N, ...), floating or of whole numbers; the shape of a floating one, such as (1, 3, 224, 224); a tuple "
    "of tensors, or a dict of them by the names of the module's arguments, all with one batch"
)


@dataclass
class Inputs:
    """An example of all inputs of a module.

    Attributes:
        example: one tensor (N, ...), a tuple or a dict of them; only whole numbers have values.
        rows: of the table that an input picks rows of, by the input's place; filled while the module is read.
    """

    example: Any
    rows: dict[int, int] = field(default_factory=dict)

    @property
    def tensors(self) -> list[Tensor]:
        """The inputs in order."""
        return list(each(self.example, Tensor))

    @property
    def is_plain(self) -> bool:
        """Whether the module takes one tensor, by place."""
        return isinstance(self.example, Tensor)

    def batch(self, count: int, device: torch.device | str) -> Any:
        """Inputs of a batch: zeros for floating numbers, the rows of the example in turn for whole ones."""

        def made(tensor: Tensor) -> Tensor:
            if tensor.is_floating_point():
                return torch.zeros(count, *tensor.shape[1:], dtype=tensor.dtype, device=device)
            return tensor[torch.arange(count) % len(tensor)].to(device)

        return replaced(self.example, Tensor, made)

    def drawn(self, count: int, generator: torch.Generator) -> Any:
        """Random inputs: normal numbers, rows of tables where the input names these, else rows of the example."""
        made = []
        for place, tensor in enumerate(self.tensors):
            shape = (count, *tensor.shape[1:])
            if tensor.is_floating_point():
                made.append(torch.randn(shape, dtype=tensor.dtype, generator=generator))
            elif place in self.rows:
                made.append(torch.randint(self.rows[place], shape, dtype=tensor.dtype, generator=generator))
            else:
                made.append(tensor[torch.randint(len(tensor), (count,), generator=generator)])
        rest = iter(made)
        return replaced(self.example, Tensor, lambda _: next(rest))


def inputs_of(example: Any) -> Inputs:
    """Check an example.

    Raises:
        InputError: it is none.
    """
    if isinstance(example, Sequence) and example and all(type(size) is int and size > 0 for size in example):
        example = torch.empty(*example, device="meta")
    nest = example if isinstance(example, (Tensor, Mapping)) else tuple(example) if _is_row(example) else ()
    given = list(nest.values()) if isinstance(nest, Mapping) else [nest] if isinstance(nest, Tensor) else list(nest)
    names = list(nest) if isinstance(nest, Mapping) else []
    if not given or not all(isinstance(x, Tensor) for x in given) or not all(type(name) is str for name in names):
        raise InputError(f"example: got {shown(' '.join(repr(example).split()))}; legal: {_LEGAL}")
    shapes = [f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}" for x in given]
    least = 2 if isinstance(nest, Tensor) else 1
    usable = all(x.dim() >= least and 0 not in x.shape and not x.is_complex() for x in given)
    if not usable or len({x.shape[0] for x in given}) > 1:
        raise InputError(f"example: got {', '.join(shapes)}; legal: {_LEGAL}")

    def kept(x: Tensor) -> Tensor:
        return torch.empty_like(x, device="meta") if x.is_floating_point() else x.detach().cpu().clone()

    return Inputs(replaced(nest, Tensor, kept))


def _is_row(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def arguments(x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a module's call for its inputs."""
    if isinstance(x, Mapping):
        return (), dict(x)
    return (tuple(x), {}) if isinstance(x, (tuple, list)) else ((x,), {})


class OneInput(nn.Module):
    """A network of several inputs as one of its first input: the others are those of an example.

    Args:
        network: the network.
        inputs: of the network.
    """

    def __init__(self, network: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.network, self._inputs = network, inputs

    def forward(self, x: Tensor) -> Any:
        """Run the network; values of the first input count, and only those."""
        batch = self._inputs.batch(len(x), x.device)
        places = iter([x, *list(each(batch, Tensor))[1:]])
        args, kwargs = arguments(replaced(batch, Tensor, lambda _: next(places)))
        return self.network(*args, **kwargs)
