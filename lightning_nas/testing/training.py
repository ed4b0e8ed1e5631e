"""Harness of the conformance suites: runs small searches and compares them bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_nas.data.base import SearchData
from lightning_nas.training.checkpoint import AtomicCheckpointIO
from lightning_nas.training.exact import ExactCheckpoint
from lightning_nas.training.exact import fit as exactly
from lightning_nas.training.metrics import MetricsFile
from lightning_nas.training.module import ResumableModule


def fit(
    module: ResumableModule,
    data: SearchData | None,
    folder: Path,
    *,
    epochs: int = 2,
    every: int = 1,
    keep: int = 100,
    resume: Path | None = None,
    allow_inexact: bool = False,
    callbacks: list[pl.Callback] | None = None,
    first: bool = False,
    **trainer_options: Any,
) -> pl.Trainer:
    """Train as a run does: exact checkpoints in ``folder/checkpoints``, metrics in ``folder/metrics.csv``.

    Without ``data`` the module must have its own loaders. With ``first`` the callbacks come before that of the
    checkpoints.
    """
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
    } | trainer_options
    exact = ExactCheckpoint(folder / "checkpoints", every=every, allow_inexact=allow_inexact)
    more = callbacks or []
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[*more, exact] if first else [exact, *more],
        plugins=[AtomicCheckpointIO(keep=keep), *options.pop("plugins", [])],
        logger=[MetricsFile(folder / "metrics.csv")],
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )
    exactly(trainer, module, resume, datamodule=data)
    return trainer


def fingerprint(trainer: pl.Trainer, module: ResumableModule, folder: Path) -> dict[str, str]:
    """SHA-256 of everything that must be equal after a resume: state, optimisers, schedules, counters, tables."""
    parts: dict[str, Any] = {
        "parameters and buffers": module.state_dict(),
        "own state": module.state(),
        "optimisers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "schedules": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
        "counters": [trainer.global_step, trainer.current_epoch, trainer.fit_loop.epoch_loop._batches_that_stepped],
    }
    digests = {name: digest(part) for name, part in parts.items()}
    return digests | {file.name: digest(file.read_text()) for file in sorted(folder.glob("*.csv"))}


def digest(value: Any) -> str:
    """SHA-256 of nested dicts, lists, tensors and plain values, exact to the bit.

    >>> digest([torch.tensor([0.1])]) == digest([torch.tensor([0.1])]), digest(0.1) == digest(0.1 + 1e-16)
    (True, False)
    >>> digest({"a": 1}) == digest({"a": 2})
    False
    """
    sha = hashlib.sha256()

    def feed(item: Any) -> None:
        if isinstance(item, Tensor):
            sha.update(f"{item.dtype} {tuple(item.shape)}".encode())
            sha.update(item.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(item, dict):
            for key, content in item.items():
                sha.update(repr(key).encode())
                feed(content)
        elif isinstance(item, (list, tuple)):
            for content in item:
                feed(content)
        else:
            sha.update(item.hex().encode() if isinstance(item, float) else repr(item).encode())

    feed(value)
    return sha.hexdigest()


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one intra-op thread inside the context: tiny networks run faster, and forked processes stay safe."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
