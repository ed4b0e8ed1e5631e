"""Short trainings of networks from scratch: for the truth of a rank check, learning curves, and a search's children."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from functools import partial

import pytorch_lightning as pl
from pydantic import PositiveFloat, PositiveInt
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.training.network import NetworkTraining, quiet_trainer
from lightning_nas.training.seeding import seeded


class StandAloneTraining:
    """Trainings on the weights and arch parts, as a retraining would be.

    Args:
        epochs: of each training.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning-rate schedule, stepped once an epoch.
        clip: largest gradient norm, or None.
        limit_train_batches: batches of an epoch at most, for trying things out.
    """

    def __init__(
        self,
        *,
        epochs: PositiveInt,
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        clip: PositiveFloat | None = None,
        limit_train_batches: PositiveInt | None = None,
    ) -> None:
        self.clip, self.limit_train_batches = clip, limit_train_batches
        self.epochs, self.optimizer, self.scheduler = epochs, optimizer, scheduler

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
    ) -> nn.Module:
        """The trained network; a function of the arguments, whatever was drawn before.

        Args:
            space: of the architecture.
            architecture: of the network.
            data: to train on.
            task: what for.
            seed: of everything random.
            callbacks: of the training.
            make: makes the network the training begins with; the space's fresh one unless given.
        """
        with seeded(seed, "truth", architecture.key):
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
                self.epochs, limit_train_batches=self.limit_train_batches, callbacks=list(callbacks)
            )
            trainer.fit(child, loader)
        return network

    def score(self, space: SearchSpace, network: nn.Module, data: SearchData, task: Task) -> float:
        """The task's score on the validation part."""
        return task.score(network, data.evaluation_loader("val", searched=True), space.num_classes)

    def conditions(self, space: SearchSpace, data: SearchData, task: Task, seed: int) -> str:
        """Digits that change with whatever a result depends on, but for the architecture."""
        how = [
            (made.func.__qualname__, sorted(made.keywords.items())) if isinstance(made, partial) else repr(made)
            for made in (self.optimizer, self.scheduler)
        ]
        own = (self.epochs, self.clip, self.limit_train_batches, how)
        facts = (space.digest, data.sizes, sorted(vars(task).items()), seed, *own)
        sha = hashlib.sha256(repr(facts).encode())
        for images, labels in itertools.chain(*data.score_batches(2)):  # a sample of the pixels, as they are fed
            sha.update(images.numpy().tobytes() + labels.numpy().tobytes())
        return sha.hexdigest()[:16]


class EachEpoch(pl.Callback):
    """Hands the network over after every epoch.

    Args:
        look: what to do with it; true ends the training.
    """

    def __init__(self, look: Callable[[nn.Module], bool | None]) -> None:
        self.look = look

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        network = pl_module.network
        assert isinstance(network, nn.Module)
        trainer.should_stop = bool(self.look(network))
