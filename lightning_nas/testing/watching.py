"""Callbacks and guards of the conformance suite that observe a running search."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from lightning_nas.strategies.base import SearchModule
from lightning_nas.testing.training import digest


class OneGroupAtATime(Callback):
    """Checks around every optimizer.step that only the parameters of that optimiser change."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        groups = [pl_module.weight_parameters(), pl_module.arch_parameters()]
        self.steps = [0] * len(trainer.optimizers)
        for i, optimizer in enumerate(trainer.optimizers):
            own = [p for group in optimizer.param_groups for p in group["params"]]
            assert [id(p) for p in own] == [id(p) for p in groups[i]]
            self._watch(i, optimizer, groups[1 - i])

    def _watch(self, i: int, optimizer: torch.optim.Optimizer, others: list[nn.Parameter]) -> None:
        before: list[str] = []

        def pre(*_: Any) -> None:
            before[:] = [digest(others)]

        def post(*_: Any) -> None:
            assert [digest(others)] == before, f"the step of optimiser {i} changed the other group"
            self.steps[i] += 1

        optimizer.register_step_pre_hook(pre)
        optimizer.register_step_post_hook(post)


class GradientNorms(Callback):
    """Records the gradient norm of each optimiser step; Lightning clips inside the step, in its closure."""

    def __init__(self) -> None:
        self.seen: tuple[list[float], list[float]] = ([], [])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for i, optimizer in enumerate(trainer.optimizers):
            optimizer.register_step_post_hook(lambda opt, *_, i=i: self.seen[i].append(_norm(opt)))


def _norm(optimizer: torch.optim.Optimizer) -> float:
    gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return float(torch.cat(gradients).norm())


def parameter_names(module: nn.Module, parameters: list[nn.Parameter]) -> list[str]:
    """The names parameters have in a module."""
    names = {id(p): name for name, p in module.named_parameters()}
    return [names[id(p)] for p in parameters]


def guard(module: SearchModule, name: str, others: list[nn.Parameter]) -> None:
    """Check after every call of a loss that ``others`` are unchanged, to the bit."""
    loss = getattr(module, name)

    def guarded(batch: Any) -> Any:
        before = digest(others)
        value = loss(batch)
        assert digest(others) == before, f"{name} changed the other group"
        return value

    setattr(module, name, guarded)


def perturb(module: nn.Module) -> None:
    """Change all parameters, which must not affect a resumed search."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
