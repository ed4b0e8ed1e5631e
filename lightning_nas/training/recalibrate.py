"""Batch-norm statistics for a network whose weights were trained in other company."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Replace the running statistics of every batch norm by the plain mean over ``batches``.

    A path cut out of a supernet inherits statistics of mixtures it no longer belongs to; without this its score says
    little (Bender et al., 2018; Guo et al., 2020, arXiv:1904.00420, section 3.4). Weights are untouched.
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
