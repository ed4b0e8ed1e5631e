"""Multinomial update of MdeNAS (Zheng et al., ICCV 2019, arXiv:1905.07529)."""

from typing import Literal

import torch
from torch import Tensor

Rule = Literal["paper", "safe"]


def multinomial_update(probabilities: Tensor, epochs: Tensor, accuracies: Tensor, alpha: float, rule: Rule) -> Tensor:
    r"""Update the probabilities of all choices: an option trained less and yet better gains from the other.

    With :math:`\Delta H^e_{ij} = H^e_i - H^e_j` and :math:`\Delta H^a_{ij} = H^a_i - H^a_j` the paper has

    .. math:: p_i \leftarrow p_i + \alpha \Big(
        \sum_j \mathbb 1[\Delta H^e_{ij} < 0, \Delta H^a_{ij} > 0]
        - \sum_j \mathbb 1[\Delta H^e_{ij} > 0, \Delta H^a_{ij} < 0] \Big)

    One option gains what another loses; entries are clipped at 0 and the row is divided by its sum. The authors' later
    code ("safe") goes through the pairs one by one, counts equal epochs too, and moves no more than an option has.

    Args:
        probabilities: (choices, options), rows sum to one.
        epochs: (choices, options), number of epochs each option was trained.
        accuracies: (choices, options), last accuracy of a network with the option; NaN for none yet, moves nothing.
        alpha: probability that a pair moves.
        rule: "paper" or "safe".

    Returns:
        (choices, options), rows sum to one.

    Example:
        >>> third = torch.full((1, 3), 1 / 3)
        >>> less_and_better = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.9, 0.8, 0.7]])
        >>> multinomial_update(third, *less_and_better, 0.01, "paper")
        tensor([[0.3533, 0.3333, 0.3133]])
    """
    if rule == "safe":
        return _pair_by_pair(probabilities, epochs, accuracies, alpha)
    more = epochs.unsqueeze(-1) - epochs.unsqueeze(-2)
    better = accuracies.unsqueeze(-1) - accuracies.unsqueeze(-2)
    up, down = ((more < 0) & (better > 0)).sum(-1), ((more > 0) & (better < 0)).sum(-1)
    moved = (probabilities + alpha * (up - down).to(probabilities)).clamp_min(0)
    return moved / moved.sum(-1, keepdim=True)


def _pair_by_pair(probabilities: Tensor, epochs: Tensor, accuracies: Tensor, alpha: float) -> Tensor:
    moved = probabilities.clone()
    for i in range(moved.shape[-1]):
        for j in range(i + 1, moved.shape[-1]):
            worse = (epochs[:, i] >= epochs[:, j]) & (accuracies[:, i] < accuracies[:, j])
            better = (epochs[:, i] <= epochs[:, j]) & (accuracies[:, i] > accuracies[:, j])
            taken = torch.where(worse, moved[:, i].clamp_max(alpha), 0) - torch.where(
                better, moved[:, j].clamp_max(alpha), 0
            )
            moved[:, i] -= taken
            moved[:, j] += taken
    return moved
