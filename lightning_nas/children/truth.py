"""The truth a rank check compares with: each architecture trained for a short while on its own."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pydantic import PositiveFloat, PositiveInt
from rich.progress import track
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.architecture import Architecture
from lightning_nas.children.training import ChildModule, quiet_trainer
from lightning_nas.data.base import SearchData
from lightning_nas.errors import InputError
from lightning_nas.files import read_json, write_json
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.training.seeding import seeded


class Trainings:
    """Short trainings of networks from scratch, on the weights and arch parts, as a retraining would be.

    Args:
        cache_dir: where results are kept by everything they depend on, so that each architecture is trained once.
        epochs: of each training.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning-rate schedule, stepped once an epoch.
        clip: largest gradient norm, or None.
        limit_train_batches: batches of an epoch at most, for trying things out.
    """

    def __init__(
        self,
        *,
        cache_dir: str,
        epochs: PositiveInt,
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        clip: PositiveFloat | None = None,
        limit_train_batches: PositiveInt | None = None,
    ) -> None:
        self.clip, self.limit_train_batches = clip, limit_train_batches
        self.cache_dir, self.epochs, self.optimizer, self.scheduler = Path(cache_dir), epochs, optimizer, scheduler

    def fit(
        self,
        space: SearchSpace,
        architecture: Architecture,
        data: SearchData,
        task: Task,
        seed: int,
        callbacks: Sequence[pl.Callback] = (),
    ) -> nn.Module:
        """The trained network; a function of the arguments, whatever was drawn before."""
        with seeded(seed, "truth", architecture.key):
            network = space.network(architecture)
            child = ChildModule(
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


class StandAlone(Trainings):
    """Score of each architecture after a short training from scratch, on the validation part."""

    def __call__(
        self, space: SearchSpace, architectures: Sequence[Architecture], data: SearchData, task: Task, seed: int
    ) -> list[float]:
        """The task's score of each architecture, in order; shows a progress bar while it trains."""
        folder = self.cache_dir / "truth" / self.conditions(space, data, task, seed)
        missing = [a for a in architectures if _read(folder / f"{a.key}.json") is None]
        for architecture in track(missing, "training for the rank check", transient=True, disable=not missing):
            score = self.score(space, self.fit(space, architecture, data, task, seed), data, task)
            write_json(folder / f"{architecture.key}.json", {"architecture": architecture.to_dict(), "score": score})
        scores = [_read(folder / f"{a.key}.json") for a in architectures]
        return [score for score in scores if score is not None]


def _read(path: Path) -> float | None:
    """A cached score; None if there is none or the file is damaged (then it is made again)."""
    score = cached(path).get("score")
    return float(score) if isinstance(score, (int, float)) else None


def cached(path: Path) -> dict[str, Any]:
    """What is in a file of the cache; nothing if there is none or it is damaged."""
    if not path.exists():
        return {}
    try:
        content: Any = read_json(path)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}
