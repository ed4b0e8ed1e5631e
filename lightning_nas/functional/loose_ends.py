"""Loose ends of a cell (ENAS, arXiv:1802.03268): states that no later node takes as input."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def loose_ends(
    rows: Sequence[Tensor], active: Sequence[Sequence[int]], states: int
) -> tuple[tuple[int, ...], Tensor | None]:
    r"""Find the states that may be loose ends, and the probability of each.

    Choice k of an input takes state j with share :math:`s_{kj}`, its gate over the sum of the active gates. So state j
    is a loose end with weight :math:`\prod_k (1 - s_{kj})`: its probability if rows are independent distributions, and
    0 or 1 if each choice has one active option.

    Args:
        rows: for each choice its gates (options,) over the first states.
        active: for each choice the options that run; a single active option is certain.
        states: number of states.

    Returns:
        Numbers of the states that may be loose ends, and their weights (one each), or None where all are 1.

    Example:
        >>> loose_ends([torch.tensor([0.5, 0.5]), torch.tensor([0.0, 0.2, 0.8])], [(0, 1), (0, 1, 2)], 4)
        ((0, 1, 2, 3), tensor([0.5000, 0.4000, 0.2000, 1.0000]))
        >>> loose_ends([torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])], [(0,), (2,)], 4)
        ((1, 3), None)
    """
    certain = {run[0] for run in active if len(run) == 1}
    maybe = tuple(j for j in range(states) if j not in certain)
    open_choices = [(row, list(run)) for row, run in zip(rows, active, strict=True) if len(run) > 1]
    if not open_choices:
        return maybe, None
    shares = []
    for row, run in open_choices:
        if len(run) < len(row):
            row = torch.zeros_like(row).index_copy(0, torch.tensor(run, device=row.device), row[run])
        shares.append(F.pad(row / row.sum(), (0, states - len(row))))
    left: Tensor = (1 - torch.stack(shares)).prod(0)
    return maybe, left if len(maybe) == states else left[list(maybe)]
