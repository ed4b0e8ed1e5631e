"""Covariance of the Jacobian (first version of Mellor et al., 2020, arXiv:2006.04647v1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_nas.proxies.base import Loss, Proxy, copied, placed

_K = 1e-5  # keeps the logarithm and the quotient finite


def jacob_cov(network: nn.Module, x: Tensor) -> float:
    r"""How little the gradients of the output by the images are correlated.

    .. math:: -\sum_i \left( \log(\sigma_i + k) + \frac{1}{\sigma_i + k} \right)

    with the eigenvalues :math:`\sigma_i` of the correlation matrix of the rows
    :math:`\partial \sum_c f_c(x_n) / \partial x_n` and :math:`k = 10^{-5}`. It is at most :math:`-N`, which it reaches
    where no two rows are correlated.

    Source: Mellor et al., arXiv:2006.04647v1, section 3. Deviations: none known.

    Args:
        network: any network of images.
        x: images (N, C, H, W), N at least 2.

    Returns:
        NaN where a row is constant.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> _ = net.weight.data.copy_(torch.tensor([[1.0, 2.0]]))
        >>> same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> jacob_cov(net, same) < -1e4  # one eigenvalue is zero
        True
    """
    with copied(network) as made:
        images = placed(network, x).detach().clone().requires_grad_()
        [rows] = torch.autograd.grad(made(images).sum(), [images], allow_unused=True, materialize_grads=True)
    correlation = torch.corrcoef(rows.flatten(1).double().cpu())
    if not correlation.isfinite().all():
        return torch.nan
    values = torch.linalg.eigvalsh(correlation).clamp_min(0) + _K
    return -float((values.log() + 1 / values).sum())


class JacobCov(Proxy):
    """Covariance of the Jacobian.

    >>> JacobCov()(nn.Linear(3, 2), (torch.rand(2, 3), torch.zeros(2)), nn.MSELoss(), torch.Generator()) < -2
    True
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return jacob_cov(network, batch[0])
