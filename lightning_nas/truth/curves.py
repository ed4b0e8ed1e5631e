"""How good networks are after each epoch of their trainings: when is their ranking known?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from rich.progress import track
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.files import write_json
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.truth.stand_alone import cached
from lightning_nas.truth.training import EachEpoch, StandAloneTraining


class LearningCurves(StandAloneTraining):
    """The score of each network after every epoch of its training alone, on the validation part.

    Args:
        networks: how many are drawn from the space, at least 3; about 18 in MdeNAS (arXiv:1905.07529).
        cache_dir: where curves are kept by everything they depend on.
        options: of :class:`~lightning_nas.truth.training.StandAloneTraining`.
    """

    def __init__(self, *, networks: PositiveInt = 18, cache_dir: str, **options: Any) -> None:
        super().__init__(**options)
        self.networks, self.cache_dir = networks, Path(cache_dir)

    def __call__(
        self, space: SearchSpace, architectures: Sequence[Architecture], data: SearchData, task: Task, seed: int
    ) -> list[list[float]]:
        """The scores of each architecture by epoch; shows a progress bar. What is in the cache is not trained again."""
        folder = self.cache_dir / "curves" / self.conditions(space, data, task, seed)
        curves = []
        for architecture in track(architectures, "training networks to rank", transient=True):
            file = folder / f"{architecture.key}.json"
            curve = _read(file, self.epochs)
            if curve is None:
                curve = self._trained(space, architecture, data, task, seed)
                write_json(file, {"architecture": architecture.to_dict(), "scores": curve})
            curves.append(curve)
        return curves

    def _trained(
        self, space: SearchSpace, architecture: Architecture, data: SearchData, task: Task, seed: int
    ) -> list[float]:
        curve: list[float] = []

        def look(network: nn.Module) -> None:
            curve.append(self.score(space, network, data, task))

        self.fit(space, architecture, data, task, seed, [EachEpoch(look)])
        return curve


def _read(path: Path, epochs: int) -> list[float] | None:
    """A cached curve; None if there is none or the file is damaged (then it is made again)."""
    scores = cached(path).get("scores")
    if not isinstance(scores, list) or len(scores) != epochs or not all(type(s) in (int, float) for s in scores):
        return None
    return [float(score) for score in scores]
