"""Base class of short trainings: the truth of a rank check, learning curves, and the children of a search."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
from pydantic import PositiveFloat
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.files import make_folder
from lightning_nas.ranges import Count, Epochs
from lightning_nas.signature import Checked
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.training.checkpoint import AtomicCheckpointIO
from lightning_nas.training.network import NetworkTraining, quiet_trainer, unannounced
from lightning_nas.training.seeding import seeded

SHORT_SGD = partial(SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
"""The default optimiser: that of conf/retrain/default.yaml."""


class ShortTraining(Checked):
    """Train one network on the weights and arch parts together, as a retraining does, but for a few epochs.

    Args:
        epochs: length of each training.
        optimizer: makes the optimiser from the list of parameters.
        scheduler: makes the learning-rate schedule from the optimiser; it is stepped once per epoch. "cosine": cosine
            annealing to 0 over ``epochs``. None: a constant rate.
        clip: upper bound of the gradient norm; None for no clipping.
        limit_train_batches: upper bound of the batches per epoch, for quick trials; None for all.
    """

    def __init__(
        self,
        *,
        epochs: Epochs = 2,
        optimizer: Callable[[list[nn.Parameter]], Optimizer] = SHORT_SGD,
        scheduler: Callable[[Optimizer], LRScheduler] | Literal["cosine"] | None = "cosine",
        clip: PositiveFloat | None = None,
        limit_train_batches: Count | None = None,
    ) -> None:
        self.clip, self.limit_train_batches = clip, limit_train_batches
        self.epochs, self.optimizer = epochs, optimizer
        self.scheduler = partial(CosineAnnealingLR, T_max=epochs) if scheduler == "cosine" else scheduler

    def fit(
        self,
        space: SearchSpace,
        architecture: Architecture,
        data: SearchData,
        task: Task,
        seed: int,
        callbacks: Sequence[pl.Callback] = (),
        *,
        make: Callable[[], nn.Module] | None = None,
        until: int | None = None,
        resume: Path | None = None,
        keep: Path | None = None,
    ) -> nn.Module:
        """Train a network and return it; the result depends on the arguments alone, not on the global random state.

        Args:
            space: the search space of the architecture.
            architecture: the architecture of the network.
            data: source of the training batches.
            task: loss and metrics.
            seed: seed of initial weights, order and augmentation.
            callbacks: Lightning callbacks of the training.
            make: makes the network before training; by default ``space.network(architecture)``.
            until: epochs after which the training pauses; None for the end. The schedule is that of :attr:`epochs`.
            resume: file of a training that paused; it goes on from there, and ends as one that did not pause, to the
                bit.
            keep: file for the state of the training; None to discard it.

        Raises:
            CheckpointError: the file to resume from is damaged.
        """
        with seeded(seed, "truth", architecture.key), unannounced():
            network = space.network(architecture) if make is None else make()
            child = NetworkTraining(
                network,
                task,
                space.num_classes,
                seed=seed,
                optimizer=self.optimizer,
                scheduler=self.scheduler,
                clip=self.clip,
            )
            loader = data.retrain_loader(lambda: child.position, searched=True)
            trainer = quiet_trainer(
                until or self.epochs,
                limit_train_batches=self.limit_train_batches,
                callbacks=list(callbacks),
                plugins=[AtomicCheckpointIO(keep=1)],
            )
            trainer.fit(child, loader, ckpt_path=resume, weights_only=True)
            if keep is not None:
                make_folder(keep.parent)
                trainer.save_checkpoint(keep)
        return network

    def score(self, space: SearchSpace, network: nn.Module, data: SearchData, task: Task) -> float:
        """Score of a network on the validation part, by the task's metric."""
        return task.score(network, data.evaluation_loader("val", searched=True), space.num_classes)

    def conditions(self, space: SearchSpace, data: SearchData, task: Task, seed: int) -> str:
        """Hexadecimal digest of everything that a result depends on except the architecture; names cached results."""
        how = [
            (made.func.__qualname__, sorted(made.keywords.items())) if isinstance(made, partial) else repr(made)
            for made in (self.optimizer, self.scheduler)
        ]
        own = (self.epochs, self.clip, self.limit_train_batches, how)
        facts = (space.digest, data.sizes, data.digest(), sorted(vars(task).items()), seed, *own)
        sha = hashlib.sha256(repr(facts).encode())
        sample = itertools.chain(data.calibration_batches(2), data.score_batches(2))  # after augmentation
        for images, labels in sample:
            sha.update(images.numpy().tobytes() + labels.numpy().tobytes())
        return sha.hexdigest()[:16]


class EachEpoch(pl.Callback):
    """Call a function with the network after every epoch.

    Args:
        look: the function; the training ends when it returns true.
    """

    def __init__(self, look: Callable[[nn.Module], bool | None]) -> None:
        self.look = look

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        network = pl_module.network
        assert isinstance(network, nn.Module)
        trainer.should_stop = bool(self.look(network))
