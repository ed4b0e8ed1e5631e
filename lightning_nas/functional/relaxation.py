"""Making gates from logits, and how certain they are."""

import torch
from torch import Tensor


def gumbel_noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise, float32, on the generator's device: ``-log(-log(u))`` with u uniform in (0, 1).

    >>> g = gumbel_noise(torch.Size([100_000]), torch.Generator().manual_seed(0))
    >>> abs(g.mean().item() - 0.5772) < 0.02  # Euler's constant
    True
    """
    return -torch.empty(shape).exponential_(generator=generator).log()


def gumbel_softmax(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """``softmax((logits + noise) / temperature)`` over the last dimension (Jang et al., 2017, arXiv:1611.01144).

    Args:
        logits: (choices, options).
        noise: Gumbel noise of the same shape.
        temperature: towards 0 the rows become one-hot, towards infinity uniform.
    """
    return ((logits + noise.to(logits)) / temperature).softmax(-1)


def straight_through(probabilities: Tensor) -> Tensor:
    """One-hot rows at the largest probabilities, with the gradient of the probabilities themselves.

    >>> p = torch.tensor([[0.2, 0.5, 0.3]], requires_grad=True)
    >>> straight_through(p).tolist()
    [[0.0, 1.0, 0.0]]
    """
    hard = torch.zeros_like(probabilities).scatter_(-1, probabilities.argmax(-1, keepdim=True), 1.0)
    return hard + (probabilities - probabilities.detach())  # in this order the value is exactly one-hot


def linear_schedule(first: float, last: float, epoch: int, epochs: int) -> float:
    """From ``first`` in epoch 0 to ``last`` in the last one.

    >>> [linear_schedule(10.0, 0.1, epoch, 250) for epoch in (0, 249)]
    [10.0, 0.1]
    """
    return last if epochs < 2 else first + (last - first) * epoch / (epochs - 1)


def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy of the rows, in nats.

    >>> round(entropy(torch.full((3, 4), 0.25)).item(), 4)  # log 4
    1.3863
    """
    mean: Tensor = -torch.special.xlogy(probabilities, probabilities).sum(-1).mean()
    return mean
