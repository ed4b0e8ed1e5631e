"""Function-preserving transformations of weights (Net2Net, Chen et al., ICLR 2016, arXiv:1511.05641), with batch norms.

Wider: units are copied, and what reads them divides by how many copies there are. Deeper: a layer that changes nothing
is put after a rectified one. Weights are (out, in) or (out, in, kernel, kernel); a batch norm is its state by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

WIDER_NOISE, DEEPER_NOISE = 0.01, 0.001
"""Standard deviations of the authors' noise, as shares of that of the weights."""


def remapping(old: int, new: int, generator: torch.Generator) -> Tensor:
    """(new,) which unit each is a copy of: first all of the ``old`` ones, then some drawn uniformly.

    >>> remapping(3, 5, torch.Generator().manual_seed(0))[:3].tolist()
    [0, 1, 2]
    """
    return torch.cat([torch.arange(old), torch.randint(old, (new - old,), generator=generator)])


def magnifiers(units: Tensor) -> Tensor:
    """(new,) one over the number of copies that there are of the same unit.

    >>> magnifiers(torch.tensor([0, 1, 2, 1])).tolist()
    [1.0, 0.5, 1.0, 0.5]
    """
    return 1 / units.bincount()[units]


def wider_rows(weight: Tensor, units: Tensor, noise: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """The weights of a layer whose units are ``units`` of the old ones.

    Args:
        weight: (out, ...).
        units: (new,), see :func:`remapping`.
        noise: on the copies, in units of the authors'; 0 for none.
        generator: of the noise.
    """
    wider = weight[units.to(weight.device)]
    if noise:
        old, scale = len(weight), noise * WIDER_NOISE * float(weight.std())
        wider[old:] += scale * torch.randn(wider[old:].shape, generator=generator).to(weight)
    return wider


def wider_columns(weight: Tensor, units: Tensor, group: int = 1) -> Tensor:
    """The weights of the layer after it.

    Args:
        weight: (out, in * group, ...).
        units: (new,), see :func:`remapping`.
        group: columns that read the same unit: the pixels of a flattened map.

    Example:
        >>> wider_columns(torch.tensor([[1.0, 2.0]]), torch.tensor([0, 1, 1]))
        tensor([[1., 1., 1.]])
    """
    grouped = weight.reshape(len(weight), -1, group, *weight.shape[2:])
    factors = magnifiers(units).to(weight).view(-1, *[1] * (grouped.dim() - 2))
    return (grouped[:, units.to(weight.device)] * factors).flatten(1, 2)


def wider_norm(norm: Mapping[str, Tensor], units: Tensor) -> dict[str, Tensor]:
    """The state of the batch norm of a layer whose units are ``units`` of the old ones."""
    return {name: value[units.to(value.device)] if value.dim() else value for name, value in norm.items()}


def identity_weight(width: int, kernel: int, noise: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """The weights of a layer that changes nothing.

    Args:
        width: number of units.
        kernel: odd size of a convolution that keeps the size of its input, 0 for a matrix.
        noise: on all of them, in units of the authors'; 0 for none.
        generator: of the noise.

    Example:
        >>> identity_weight(2, 0)
        tensor([[1., 0.],
                [0., 1.]])
    """
    weight = torch.eye(width)
    if kernel:
        filters = torch.zeros(width, width, kernel, kernel)
        filters[:, :, kernel // 2, kernel // 2] = weight
        weight = filters
    if noise:
        weight = weight + noise * DEEPER_NOISE * weight.std() * torch.randn(weight.shape, generator=generator)
    return weight


def identity_norm(mean: Tensor, variance: Tensor, eps: float) -> dict[str, Tensor]:
    """The state of a batch norm that changes nothing in evaluation mode, by the statistics of its input.

    >>> norm = nn.BatchNorm1d(2)
    >>> norm.load_state_dict(identity_norm(torch.tensor([3.0, 0.0]), torch.tensor([4.0, 1.0]), norm.eps))
    <All keys matched successfully>
    >>> norm.eval()(torch.tensor([[5.0, -1.0]])).round(decimals=4).tolist()
    [[5.0, -1.0]]
    """
    return {
        "weight": (variance + eps).sqrt(),
        "bias": mean.clone(),
        "running_mean": mean.clone(),
        "running_var": variance.clone(),
        "num_batches_tracked": torch.tensor(0),
    }


def rectified_moments(shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of :math:`\max(0, x)` with :math:`x \sim N(\text{shift}, \text{scale}^2)`, elementwise.

    What a batch norm with these parameters and a ReLU give, as far as can be told without a batch.

    >>> [round(float(moment), 4) for moment in rectified_moments(torch.zeros(1), torch.ones(1))]
    [0.3989, 0.3408]
    """
    mean, spread = shift.double(), scale.double().abs().clamp_min(1e-12)
    ratio = mean / spread
    above, density = torch.special.ndtr(ratio), torch.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    first = mean * above + spread * density
    second = (mean**2 + spread**2) * above + mean * spread * density
    return first.to(shift), (second - first**2).clamp_min(0).to(shift)


def settle_identities(network: nn.Module, norms: list[_BatchNorm], images: Tensor) -> None:
    """Make ``norms`` identities, by the statistics of their inputs when ``network`` looks at ``images``.

    The network runs once, in evaluation mode, and is left in the mode it was in.
    """

    def settle(norm: nn.Module, into: tuple[Any, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        units = into[0].transpose(0, 1).flatten(1)
        norm.load_state_dict(identity_norm(units.mean(1), units.var(1, correction=0), norm.eps))

    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(images)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
