"""Conformance test: a strategy finds the best architecture more often than random search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.one_path.random_ws import RandomWS
from lightning_nas.testing.searching import PLAIN, Make, SearchCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import generator, seeded


class FindingCase(SearchCase):
    """Compares a strategy with random search on a toy space whose best architecture is known, with equal seeds."""

    search_epochs = 8  #: enough to find it
    search_options: ClassVar[Mapping[str, Any]] = {}  #: of the strategy in these searches
    search_seeds = 5  #: searches with these many seeds
    found_at_least = 4  #: of them find it
    candidates = 1  #: architectures a search scores to choose its answer from; random search is given as many
    paths = 1  #: architectures a batch trains; random search, which trains one, is given as many times the epochs

    def test_it_finds_the_best_toy_architecture_more_often_than_random_search(
        self, make: Make, lessons: SearchData, tmp_path: Path
    ) -> None:
        found = by_chance = 0
        for seed in range(self.search_seeds):
            module = make(seed=seed, **self.search_options)
            assert isinstance(module.space, ToySpace)
            by_chance += self.random_search(module, lessons, tmp_path / f"random{seed}") == module.space.best
            if found < self.found_at_least:  # otherwise the rest cannot change the result
                self._search(module, lessons, tmp_path / str(seed), self.search_epochs)
                found += self.found(module) == module.space.best
        counts = f"found in {found} of {self.search_seeds} seeds, by random search in {by_chance}"
        assert found >= self.found_at_least, counts
        assert found > by_chance, counts

    def found(self, module: SearchModule) -> Architecture:
        """The result of a search, by ``derive``: ``answer`` may score enough candidates to find the best by chance."""
        return module.derive()

    def random_search(self, like: SearchModule, lessons: SearchData, folder: Path) -> Architecture:
        """The answer of random search with shared weights, with equal training and equally many ``candidates``."""
        weights = like.trainings["weights"].optimizer
        with seeded(like.seed, "supernet"):
            module = RandomWS(
                like.space,
                like.task,
                seed=like.seed,
                **PLAIN,
                weights_optimizer=weights,
                candidates=self.candidates,
                calibration_batches=like.calibration_batches,
                score_batches=like.score_batches,
            )
        if self.candidates == 1:  # the only candidate is the answer, whatever was learnt
            return module.sample(generator(like.seed, "random search"))
        self._search(module, lessons, folder, self.search_epochs * self.paths)
        return module.answer()

    def _search(self, module: SearchModule, lessons: SearchData, folder: Path, epochs: int) -> None:
        quick: dict[str, Any] = {"every": 1000, "log_every_n_steps": 10**6, "limit_val_batches": 0}
        fit(module, lessons, folder, epochs=epochs, **quick)
