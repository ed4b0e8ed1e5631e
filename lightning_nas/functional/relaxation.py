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


def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy of the rows, in nats.

    >>> round(entropy(torch.full((3, 4), 0.25)).item(), 4)  # log 4
    1.3863
    """
    mean: Tensor = -torch.special.xlogy(probabilities, probabilities).sum(-1).mean()
    return mean
