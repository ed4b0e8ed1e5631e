"""The truth a rank check compares with: each architecture trained for a short while on its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.errors import InputError
from lightning_nas.files import read_json, write_json
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.truth.training import StandAloneTraining


class StandAlone(StandAloneTraining):
    """Score of each architecture after a short training from scratch, on the validation part.

    Args:
        cache_dir: where results are kept by everything they depend on, so that each architecture is trained once.
        options: of :class:`~lightning_nas.truth.training.StandAloneTraining`.
    """

    def __init__(self, *, cache_dir: str, **options: Any) -> None:
        super().__init__(**options)
        self.cache_dir = Path(cache_dir)

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
