"""How a cost enters a loss or a reward, as the papers have it."""

from torch import Tensor


def fbnet_loss(loss: Tensor, latency: Tensor, alpha: float, beta: float) -> Tensor:
    r"""FBNet's product of cross entropy and latency (arXiv:1812.03443, equation 2).

    .. math:: L = \mathrm{CE} \cdot \alpha \log(\mathrm{LAT})^\beta

    with the natural logarithm. The best-known re-implementation takes :math:`\log(\mathrm{LAT}^\beta)` instead, which
    is another function.

    Args:
        loss: the task's loss, a scalar.
        latency: scalar, above 1 in its unit (microseconds), so that its logarithm is positive.
        alpha: scale.
        beta: exponent.

    Example:
        >>> import torch
        >>> round(fbnet_loss(torch.tensor(1.0), torch.tensor(100.0), 0.2, 0.6).item(), 5)
        0.50001
    """
    return loss * alpha * latency.log() ** beta
