"""Learning curves of networks that are trained alone, to see after how many epochs their ranking is settled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from lightning_utilities.core.rank_zero import rank_zero_warn
from pydantic import PositiveFloat
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.architecture import Architecture
from lightning_nas.bars import tracked
from lightning_nas.data.base import SearchData
from lightning_nas.errors import NumericalError
from lightning_nas.files import cache_folder, write_json
from lightning_nas.ranges import Count, Epochs, Ranked
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.truth.short_training import SHORT_SGD, EachEpoch, ShortTraining
from lightning_nas.truth.stand_alone import cached


class LearningCurves(ShortTraining):
    """Score of each network on the validation part after every epoch of a training from scratch.

    Args:
        networks: number of architectures drawn from the space, at least 3; about 18 in MdeNAS (arXiv:1905.07529).
        cache_dir: folder of the curves, which are kept under the digest of everything they depend on; None for
            :func:`~lightning_nas.files.cache_folder`.
        epochs: length of each training.
        optimizer: makes the optimiser from the list of parameters.
        scheduler: makes the learning-rate schedule from the optimiser; it is stepped once per epoch. "cosine": cosine
            annealing to 0 over ``epochs``. None: a constant rate.
        clip: upper bound of the gradient norm; None for no clipping.
        limit_train_batches: upper bound of the batches per epoch, for quick trials; None for all.

    Example:
        >>> import tempfile
        >>> from lightning_nas.tasks.classification import Classification
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> space, data = ToySpace(), ToyData(images=256)
        >>> data.setup("fit")
        >>> curves = LearningCurves(cache_dir=tempfile.mkdtemp(), epochs=2)
        >>> [len(curve) for curve in curves(space, [space.best], data, Classification(), seed=0)]
        [2]
    """

    def __init__(
        self,
        *,
        networks: Ranked = 18,
        cache_dir: str | None = None,
        epochs: Epochs = 12,
        optimizer: Callable[[list[nn.Parameter]], Optimizer] = SHORT_SGD,
        scheduler: Callable[[Optimizer], LRScheduler] | Literal["cosine"] | None = "cosine",
        clip: PositiveFloat | None = None,
        limit_train_batches: Count | None = None,
    ) -> None:
        super().__init__(
            epochs=epochs, optimizer=optimizer, scheduler=scheduler, clip=clip, limit_train_batches=limit_train_batches
        )
        self.networks = networks
        self.cache_dir = cache_folder() if cache_dir is None else Path(cache_dir).expanduser()

    def __call__(
        self, space: SearchSpace, architectures: Sequence[Architecture], data: SearchData, task: Task, seed: int
    ) -> list[list[float]]:
        """The scores of each architecture by epoch, read from the cache or trained; a progress bar is shown.

        They are minus infinity from the epoch on in which a network diverged.
        """
        folder = self.cache_dir / "curves" / self.conditions(space, data, task, seed)
        curves = []
        for architecture in tracked(architectures, "training networks to rank"):
            file = folder / f"{architecture.key}.json"
            curve = _read(file, self.epochs)
            if curve is None:
                curve = self._trained(space, architecture, data, task, seed)
                if all(map(math.isfinite, curve)):  # JSON has no other numbers
                    write_json(file, {"architecture": architecture.to_dict(), "scores": curve})
            curves.append(curve)
        return curves

    def _trained(
        self, space: SearchSpace, architecture: Architecture, data: SearchData, task: Task, seed: int
    ) -> list[float]:
        curve: list[float] = []

        def look(network: nn.Module) -> None:
            curve.append(self.score(space, network, data, task))

        try:
            self.fit(space, architecture, data, task, seed, [EachEpoch(look)])
        except NumericalError as reason:
            rank_zero_warn(f"{architecture.key} diverged after {len(curve)} epochs: {reason}")
        known = [score if math.isfinite(score) else -math.inf for score in curve]
        return known + [-math.inf] * (self.epochs - len(known))


def _read(path: Path, epochs: int) -> list[float] | None:
    """A cached curve; None if the file is missing or damaged, so that the network is trained again."""
    scores = cached(path).get("scores")
    if not isinstance(scores, list) or len(scores) != epochs or not all(type(s) in (int, float) for s in scores):
        return None
    return [float(score) for score in scores]
