"""Running a module for a look at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lightning_nas.training.module import ResumableModule
from lightning_nas.training.seeding import seeded


@contextmanager
def untouched(module: ResumableModule) -> Iterator[None]:
    """Inside, the module may run on this process alone, with gradients; it and global generators are then as before.

    Put back are buffers, modes, and which parameters require a gradient; not what is written into parameters or their
    ``grad``. Batch norms that synchronise use their running statistics: the other processes do not take part.
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
