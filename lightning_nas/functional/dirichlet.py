"""Dirichlet distributions over the options of a choice: concentrations, samples with pathwise gradients, divergence."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

LEAST = 1e-3
"""Concentration below which a sample is no different: one-hot rows; smaller ones leave the range of float64."""


def concentration(logits: Tensor) -> Tensor:
    r"""Positive concentrations ``elu(logits) + 1``: ``exp(x)`` below 0, ``x + 1`` above (DrNAS, arXiv:2006.10355).

    Written without the cancellation of ``elu``, which in float32 is exactly -1 from -18 on.

    >>> concentration(torch.tensor([-20.0, 0.0, 2.0]))
    tensor([2.0612e-09, 1.0000e+00, 3.0000e+00])
    """
    return torch.where(logits > 0, logits + 1, logits.clamp(max=0).exp())


class _Sample(torch.autograd.Function):
    """A Dirichlet sample from a generator; the derivative is that of ``torch.distributions.Dirichlet.rsample``."""

    @staticmethod
    def forward(ctx: Any, concentrations: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch._sample_dirichlet(concentrations, generator=generator)
        ctx.save_for_backward(drawn, concentrations)
        return drawn

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        drawn, concentrations = ctx.saved_tensors
        total = concentrations.sum(-1, keepdim=True).expand_as(concentrations)
        slope = torch._dirichlet_grad(drawn, concentrations, total)
        return slope * (gradient - (drawn * gradient).sum(-1, keepdim=True)), None


def sample_dirichlet(concentrations: Tensor, generator: torch.Generator) -> Tensor:
    r"""Draw from Dirichlet distributions, differentiably in their concentrations (pathwise, Jankowiak and Obermeyer).

    ``torch.distributions.Dirichlet.rsample`` does the same from torch's global generator. The sample is drawn in
    float64 on the generator's device. Concentrations below 0.001 count as that and get no gradient, since the samples
    and gradients of smaller ones leave the range of numbers.

    Args:
        concentrations: (choices, options), positive.
        generator: of the sample, on the CPU.

    Returns:
        (choices, options) with rows that sum to one, of the type and on the device of ``concentrations``.

    Source: Jankowiak and Obermeyer, ICML 2018, arXiv:1806.01851, as implemented in torch.

    Example:
        >>> c = torch.tensor([[1000.0, 4000.0]], requires_grad=True)
        >>> drawn = sample_dirichlet(c, torch.Generator().manual_seed(0))
        >>> [round(value, 1) for value in drawn[0].tolist()]
        [0.2, 0.8]
        >>> drawn[0, 0].backward()
        >>> bool(c.grad[0, 0] > 0 > c.grad[0, 1])
        True
    """
    bounded = concentrations.to(generator.device, torch.float64).clamp_min(LEAST)
    drawn: Tensor = _Sample.apply(bounded, generator)
    return drawn.to(concentrations)


def kl_to_flat(concentrations: Tensor) -> Tensor:
    r"""Divergence :math:`\mathrm{KL}(\mathrm{Dir}(c) \,\|\, \mathrm{Dir}(1))` of each row, in nats.

    .. math:: \log \frac{\Gamma(\sum_i c_i)}{\Gamma(n) \prod_i \Gamma(c_i)}
              + \sum_i (c_i - 1) \Big(\psi(c_i) - \psi\big(\textstyle\sum_j c_j\big)\Big)

    Args:
        concentrations: (choices, options), positive.

    Returns:
        (choices,), zero where all concentrations are 1.

    Example:
        >>> kl_to_flat(torch.ones(2, 5)).tolist()
        [0.0, 0.0]
        >>> round(kl_to_flat(torch.tensor([[2.0, 1.0]])).item(), 4)  # log 2 - 1/2
        0.1931
    """
    total = concentrations.sum(-1)
    options = concentrations.shape[-1]
    normalisers = total.lgamma() - concentrations.lgamma().sum(-1) - math.lgamma(options)
    means = concentrations.digamma() - total.digamma().unsqueeze(-1)
    return normalisers + ((concentrations - 1) * means).sum(-1)
