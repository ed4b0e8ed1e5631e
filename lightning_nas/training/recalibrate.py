"""Recompute the batch-norm statistics of a network cut from a supernet, or keep those of a supernet."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Replace the running statistics of every batch norm by the mean over ``batches``.

    A path of a supernet inherits the statistics of the supernet's mixtures, and its score says little before they are
    recomputed (Bender et al., 2018; Guo et al., 2020, arXiv:1904.00420, section 3.4). Weights do not change.

    Args:
        network: the network; its training mode is restored.
        batches: pairs (x, y), of which x is used.

    Example:
        >>> network = nn.Sequential(nn.BatchNorm1d(1))
        >>> recalibrate(network, [(torch.tensor([[1.0], [3.0]]), torch.zeros(2))])
        >>> network[0].running_mean
        tensor([2.])
    """
    device, training = next(network.parameters()).device, network.training
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
    network.train()
    for x, _ in batches:
        network(x.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(training)


@contextmanager
def kept_buffers(network: nn.Module) -> Iterator[None]:
    """Let passes inside the block move copies of the buffers: the network's own stay as they are.

    The tensors are exchanged rather than written back, so that a backward pass may follow the block.

    Example:
        >>> network = nn.BatchNorm1d(1)
        >>> with kept_buffers(network):
        ...     _ = network(torch.tensor([[1.0], [3.0]]))
        >>> network.running_mean, network.num_batches_tracked
        (tensor([0.]), tensor(0))
    """
    owners = [module for module in network.modules() if module._buffers]
    kept = [dict(module._buffers) for module in owners]
    for module, buffers in zip(owners, kept, strict=True):
        module._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
    try:
        yield
    finally:
        for module, buffers in zip(owners, kept, strict=True):
            module._buffers.update(buffers)
