r"""Perturbed weights of options: the ball around a distribution, and its random and its worst points.

SmoothDARTS (Chen and Hsieh, ICML 2020, arXiv:2002.05283) trains the weights of a supernet under these, so that they
suit a neighbourhood of the architecture parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Rows = Mapping[str, Tensor]


def on_simplex(rows: Tensor) -> Tensor:
    """Rows with their entries limited to 0 and above, scaled to sum to one; one-hot where nothing is above 0.

    >>> on_simplex(torch.tensor([[0.5, 0.5, -0.2], [0.9, 0.6, 0.0], [-0.2, -0.1, -0.3]]))
    tensor([[0.5000, 0.5000, 0.0000],
            [0.6000, 0.4000, 0.0000],
            [0.0000, 1.0000, 0.0000]])
    """
    limited = rows.clamp(0, 1)
    largest = torch.zeros_like(rows).scatter_(-1, rows.argmax(-1, keepdim=True), 1.0)
    limited = torch.where(limited.sum(-1, keepdim=True) > 0, limited, largest)
    return limited / limited.sum(-1, keepdim=True)


def radius_of(last: float, epoch: int, epochs: int, first: float = 0.03) -> float:
    """Radius of the ball in an epoch: linear from ``first``, towards ``last`` after the last one.

    >>> [round(radius_of(0.3, epoch, 50), 4) for epoch in (0, 25, 49)]
    [0.03, 0.165, 0.2946]
    """
    return first + (last - first) * epoch / epochs


def random_rows(rows: Rows, radius: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Rows with uniform noise in [-radius, radius] on each entry, brought back to the simplex.

    Args:
        rows: (choices, options) of each group, rows that sum to one.
        radius: of the ball in the maximum norm.
        generator: of the noise, on the CPU.
    """
    noise = {group: (2 * torch.rand(p.shape, generator=generator) - 1) * radius for group, p in rows.items()}
    return {group: on_simplex(p + noise[group].to(p)) for group, p in rows.items()}


def worst_rows(
    rows: Rows, radius: float, generator: torch.Generator, loss: Callable[[Rows], Tensor], steps: int = 7
) -> dict[str, Tensor]:
    """Rows near to ``rows`` under which the loss is large: projected ascent along the sign of the gradient.

    The ascent begins at :func:`random_rows` and takes steps of ``2 * radius / steps``, each followed by a projection to
    the ball and to the simplex. If its end is no worse than ``rows``, these are returned.

    Args:
        rows: (choices, options) of each group, rows that sum to one.
        radius: of the ball in the maximum norm.
        generator: of the beginning, on the CPU.
        loss: of such rows, differentiable in them.
        steps: of the ascent.

    Example:
        >>> half = {"layers": torch.tensor([[0.5, 0.5]])}
        >>> worst_rows(half, 0.1, torch.Generator(), lambda rows: rows["layers"][0, 0] - rows["layers"][0, 1])
        {'layers': tensor([[0.6000, 0.4000]])}
    """
    found = random_rows(rows, radius, generator)
    for _ in range(steps):
        points = {group: p.detach().requires_grad_() for group, p in found.items()}
        slopes = torch.autograd.grad(loss(points), list(points.values()))
        moved = {
            group: p.detach() + 2 * radius / steps * slope.sign()
            for (group, p), slope in zip(points.items(), slopes, strict=True)
        }
        found = {group: on_simplex(p + (moved[group] - p).clamp(-radius, radius)) for group, p in rows.items()}
    with torch.no_grad():
        return found if float(loss(found)) >= float(loss(rows)) else dict(rows)
