"""The truth of a rank check: the score of each architecture after a short training from scratch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning_utilities.core.rank_zero import rank_zero_warn
from pydantic import PositiveFloat
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.architecture import Architecture
from lightning_nas.bars import tracked
from lightning_nas.data.base import SearchData
from lightning_nas.errors import InputError, NumericalError
from lightning_nas.files import cache_folder, read_json, write_json
from lightning_nas.ranges import Count, Epochs
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.truth.short_training import SHORT_SGD, ShortTraining


class StandAlone(ShortTraining):
    """Score of each architecture on the validation part after a short training from scratch.

    Args:
        cache_dir: folder of the results, which are kept under the digest of everything they depend on; None for
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
        >>> truth = StandAlone(cache_dir=tempfile.mkdtemp(), epochs=1)
        >>> len(truth(space, [space.best], data, Classification(), seed=0))
        1
    """

    def __init__(
        self,
        *,
        cache_dir: str | None = None,
        epochs: Epochs = 2,
        optimizer: Callable[[list[nn.Parameter]], Optimizer] = SHORT_SGD,
        scheduler: Callable[[Optimizer], LRScheduler] | Literal["cosine"] | None = "cosine",
        clip: PositiveFloat | None = None,
        limit_train_batches: Count | None = None,
    ) -> None:
        super().__init__(
            epochs=epochs, optimizer=optimizer, scheduler=scheduler, clip=clip, limit_train_batches=limit_train_batches
        )
        self.cache_dir = cache_folder() if cache_dir is None else Path(cache_dir).expanduser()
        self._diverged = set[Path]()  # files that JSON cannot hold, as it has no such number

    def __call__(
        self, space: SearchSpace, architectures: Sequence[Architecture], data: SearchData, task: Task, seed: int
    ) -> list[float]:
        """The task's score of each architecture, in order; a progress bar is shown during training.

        Minus infinity is that of a network that diverged: the worst of all.
        """
        folder = self.cache_dir / "truth" / self.conditions(space, data, task, seed)
        files = {a: folder / f"{a.key}.json" for a in architectures}
        missing = [a for a, file in files.items() if file not in self._diverged and _read(file) is None]
        for architecture in tracked(missing, "training for the rank check", hidden=not missing):
            try:
                score = self.score(space, self.fit(space, architecture, data, task, seed), data, task)
            except NumericalError as reason:
                rank_zero_warn(f"rank check: {architecture.key} diverged when it was trained alone: {reason}")
                score = math.nan
            if not math.isfinite(score):
                self._diverged.add(files[architecture])
                continue
            write_json(files[architecture], {"architecture": architecture.to_dict(), "score": score})
        scores = [-math.inf if files[a] in self._diverged else _read(files[a]) for a in architectures]
        return [score for score in scores if score is not None]

    def again(
        self, space: SearchSpace, architectures: Sequence[Architecture], data: SearchData, task: Task, seed: int
    ) -> tuple[list[float], list[float]]:
        """The truth, and that of trainings with another seed; both are kept."""
        first, second = (self(space, architectures, data, task, number) for number in (seed, seed + 1))
        return first, second


def _read(path: Path) -> float | None:
    """A cached score; None if the file is missing or damaged, so that the network is trained again."""
    score = cached(path).get("score")
    return float(score) if isinstance(score, (int, float)) else None


def cached(path: Path) -> dict[str, Any]:
    """The content of a file of the cache; empty if the file is missing or damaged."""
    if not path.exists():
        return {}
    try:
        content: Any = read_json(path)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}
