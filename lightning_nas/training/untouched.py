"""Context in which a module can run without a lasting effect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lightning_nas.training.module import ResumableModule
from lightning_nas.training.seeding import seeded


@contextmanager
def untouched(module: ResumableModule) -> Iterator[None]:
    """Let a module run inside the context, on this process alone and with gradients, and restore it afterwards.

    Buffers, training modes, ``requires_grad`` flags and global generators are restored; values written into parameters
    or their ``grad`` are not. Synchronised batch norms use their running statistics, because the other processes do not
    take part.
    """
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    modes = [(part, part.training) for part in module.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    for part in module.modules():
        if isinstance(part, nn.SyncBatchNorm):
            part.eval()
    try:
        with seeded(module.seed, "untouched", module.position), torch.enable_grad():
            yield
    finally:
        with torch.no_grad():
            for buffer, old in buffers:
                buffer.copy_(old)
        for part, training in modes:
            part.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
