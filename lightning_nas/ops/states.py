"""Comparison of the weights of two networks by their names and shapes."""

from collections.abc import Mapping

from torch import Tensor

Shape = tuple[int, ...]


def mismatch(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> tuple[str, Shape | None, Shape | None] | None:
    """The first name whose tensors differ in shape in two state dicts, with both shapes; None if there is none.

    The shape of a tensor that is missing is None.

    >>> import torch
    >>> mismatch({"weight": torch.zeros(2, 3)}, {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)})
    ('bias', None, (2,))
    """
    for name in [*one, *other]:
        shapes = [tuple(part[name].shape) if name in part else None for part in (one, other)]
        if shapes[0] != shapes[1]:
            return name, shapes[0], shapes[1]
    return None
