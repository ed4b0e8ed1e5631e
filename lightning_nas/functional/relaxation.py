"""Relaxations that make gates from logits, and their entropy."""

from collections.abc import Mapping

import torch
from torch import Tensor


def gumbel_noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise, float32, on the generator's device: ``-log(-log(u))`` with u uniform in (0, 1).

    >>> g = gumbel_noise(torch.Size([100_000]), torch.Generator().manual_seed(0))
    >>> abs(g.mean().item() - 0.5772) < 0.02  # Euler's constant
    True
    """
    drawn = torch.empty(shape).exponential_(generator=generator)
    return -drawn.clamp_min(torch.finfo(drawn.dtype).tiny).log()  # some versions of torch draw 0: infinite noise


def gumbel_softmax(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """``softmax((logits + noise) / temperature)`` over the last dimension (Jang et al., 2017, arXiv:1611.01144).

    Args:
        logits: (choices, options).
        noise: Gumbel noise of the same shape.
        temperature: towards 0 the rows become one-hot, towards infinity uniform.

    Example:
        >>> gumbel_softmax(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]), 1.0)
        tensor([[0.5000, 0.5000]])
    """
    return ((logits + noise.to(logits)) / temperature).softmax(-1)


def largest(probabilities: Tensor) -> Tensor:
    """Make one-hot rows of the largest entries.

    >>> largest(torch.tensor([[0.2, 0.5, 0.3]])).tolist()
    [[0.0, 1.0, 0.0]]
    """
    return torch.zeros_like(probabilities).scatter_(-1, probabilities.argmax(-1, keepdim=True), 1.0)


def linear_schedule(first: float, last: float, epoch: int, epochs: int) -> float:
    """Interpolate linearly from ``first`` in epoch 0 to ``last`` in the last epoch.

    >>> [round(linear_schedule(10.0, 0.1, epoch, 250), 9) for epoch in (0, 249)]
    [10.0, 0.1]
    """
    return last if epochs < 2 else first + (last - first) * epoch / (epochs - 1)


def exponential_schedule(first: float, last: float, epoch: int, epochs: int) -> float:
    """Interpolate by a constant factor an epoch, from ``first`` in epoch 0 to ``last`` in the last epoch.

    >>> [round(exponential_schedule(8.0, 0.5, epoch, 5), 9) for epoch in range(5)]
    [8.0, 4.0, 2.0, 1.0, 0.5]
    """
    return last if epochs < 2 else first * (last / first) ** (epoch / (epochs - 1))


def entropies(probabilities: Tensor) -> Tensor:
    """Entropy of each row, in nats.

    >>> [round(value, 4) for value in entropies(torch.tensor([[0.5, 0.5], [1.0, 0.0]])).tolist()]  # log 2, 0
    [0.6931, 0.0]
    """
    summed: Tensor = torch.special.entr(probabilities).sum(-1)
    return summed


def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy of the rows, in nats.

    >>> round(entropy(torch.full((3, 4), 0.25)).item(), 4)  # log 4
    1.3863
    """
    return entropies(probabilities).mean()


def ties(probabilities: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Numbers of the rows whose largest entry occurs more than once, by group.

    >>> ties({"layers": torch.tensor([[0.4, 0.4, 0.2], [0.3, 0.4, 0.3]])})
    {'layers': [0]}
    """
    return {
        group: [i for i, row in enumerate(rows) if int((row == row.max()).sum()) > 1]
        for group, rows in probabilities.items()
    }


def straight_through(chosen: Tensor, probabilities: Tensor) -> Tensor:
    r"""Return the values of ``chosen`` with the gradient of ``probabilities`` (Bengio et al., 2013, arXiv:1308.3432).

    With one-hot rows and :math:`p = \mathrm{softmax}(\alpha)` these are ProxylessNAS' binary gates (arXiv:1812.00332,
    equation 4): :math:`\partial L/\partial\alpha_i = \sum_j \partial L/\partial g_j \; p_j (\delta_{ij} - p_i)`.

    Args:
        chosen: (choices, options).
        probabilities: (choices, options).

    Example:
        >>> p = torch.tensor([[0.7, 0.3]], requires_grad=True)
        >>> gates = straight_through(largest(p), p)
        >>> gates.tolist(), torch.autograd.grad(gates[0, 0], p)[0].tolist()
        ([[1.0, 0.0]], [[1.0, 0.0]])
    """
    return chosen + (probabilities - probabilities.detach())


def reinmax(logits: Tensor, chosen: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Return the values of ``chosen`` with the gradient of ReinMax (Liu et al., NeurIPS 2023, arXiv:2304.08612).

    .. math:: \frac{\partial L}{\partial \theta} = 2 \, g^T J\Big(\frac{D + \pi_\tau}{2}\Big)
              - \frac{1}{2} g^T J(\pi), \qquad J(\pi) = \mathrm{diag}(\pi) - \pi \pi^T

    with the gradient :math:`g` of the gates, one-hot :math:`D \sim \pi = \mathrm{softmax}(\theta)` and
    :math:`\pi_\tau = \mathrm{softmax}(\theta / \tau)`. At :math:`\tau = 1` its mean over :math:`D` is the exact
    gradient where the loss is quadratic in the gates; that of :func:`straight_through` is where the loss is linear.

    Args:
        logits: (choices, options).
        chosen: (choices, options), one-hot rows drawn from the softmax of the logits.
        temperature: of :math:`\pi_\tau`, at least 1 in the paper.

    Source: sections 3.2 and 4, algorithm 2.

    Example:
        >>> theta = torch.zeros(1, 2, requires_grad=True)
        >>> gates = reinmax(theta, torch.tensor([[1.0, 0.0]]))
        >>> gates.round(decimals=4).tolist(), torch.autograd.grad(gates[0, 0], theta)[0].round(decimals=4).tolist()
        ([[1.0, 0.0]], [[0.25, -0.25]])
    """
    middle = ((chosen + (logits / temperature).softmax(-1)) / 2).log()
    second = ((middle - logits).detach() + logits).softmax(-1)
    return straight_through(chosen, 2 * second - logits.softmax(-1) / 2)


def keep_total(new: Tensor, old: Tensor) -> Tensor:
    """Shift each row of ``new`` logits so that its options together keep their probability under ``old``.

    Options whose logits are not among these then keep their probabilities (ProxylessNAS, arXiv:1812.00332, section
    3.2.1).

    Args:
        new: (choices, some of the options).
        old: logits of the same options before.

    Example:
        >>> keep_total(torch.tensor([[0.21, 0.37]]), torch.tensor([[0.2, 0.4]]))
        tensor([[0.2218, 0.3818]])
    """
    return new - (new.logsumexp(-1, keepdim=True) - old.logsumexp(-1, keepdim=True))
