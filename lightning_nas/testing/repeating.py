"""Conformance tests of reproducibility: equal runs, resumed runs, and runs of two processes."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import torch

from lightning_nas.data.base import SearchData
from lightning_nas.strategies.base import SearchModule
from lightning_nas.testing.searching import Make, SearchCase, steps_architecture
from lightning_nas.testing.training import digest, fingerprint, fit
from lightning_nas.testing.watching import perturb
from lightning_nas.training.checkpoint import load_checked


class RepeatingCase(SearchCase):
    """Tests that a search gives the same bits."""

    def test_two_runs_of_one_seed_are_equal_to_the_bit(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        results = []
        for run in ("a", "b"):
            torch.manual_seed(hash(run) % 2**32)  # earlier random numbers of the process
            module = make(seed=3)
            trainer = fit(module, data, tmp_path / run, epochs=self.epochs, every=1000)
            results.append((fingerprint(trainer, module, tmp_path / run), module.answer()))
        assert results[0] == results[1]

    def test_another_seed_gives_another_search(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        searched = [make(seed=seed) for seed in (0, 1)]
        for i, module in enumerate(searched):
            fit(module, data, tmp_path / str(i), epochs=1, every=1000)
        assert digest(searched[0].state_dict()) != digest(searched[1].state_dict())

    def test_resuming_from_any_batch_equals_never_having_stopped(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        module = resume_everywhere(make, data, tmp_path, self.epochs)
        assert len(list((tmp_path / "whole" / "checkpoints").glob("*.ckpt"))) == module.position

    def test_checkpoints_hold_plain_values_only(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        fit(make(), data, tmp_path, epochs=1)
        assert load_checked(tmp_path / "checkpoints" / "last.ckpt")["lightning_nas"]["position"] > 0

    def test_resuming_inside_the_warm_up_equals_never_having_stopped(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        steps_architecture(make)
        resume_everywhere(partial(make, arch_warmup_epochs=1), data, tmp_path, max(2, self.epochs), every=2)
        first = min((tmp_path / "whole" / "checkpoints").glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
        state = load_checked(first)["lightning_nas"]
        assert (state["position"], state["arch_steps"]) == (2, 0)

    def test_two_processes_end_equal(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        from lightning_nas.testing.distributed import two_ranks

        states = two_ranks(lambda: make(seed=2), data, tmp_path)
        assert states[0]["arch"] == states[1]["arch"], "architecture parameters differ between the ranks"
        assert states[0]["weights"] == states[1]["weights"], "weights differ between the ranks"
        assert states[0]["sample"] == states[1]["sample"], "the ranks draw different architectures"
        assert states[0]["gates"] == states[1]["gates"], "the ranks draw different gates"


def resume_everywhere(make: Make, data: SearchData, folder: Path, epochs: int, every: int = 1) -> SearchModule:
    """Search without interruption, resume from each of its checkpoints, and compare the ends bit for bit."""
    whole, module = folder / "whole", make(seed=5)
    trainer = fit(module, data, whole, epochs=epochs, every=every)
    expected, answer = fingerprint(trainer, module, whole), module.answer()
    for checkpoint in sorted((whole / "checkpoints").glob("*.ckpt")):
        resumed = folder / checkpoint.stem
        resumed.mkdir()
        for table in whole.glob("*.csv"):
            shutil.copy(table, resumed)
        torch.manual_seed(hash(checkpoint.stem) % 2**32)
        again = make(seed=5)
        perturb(again)
        trainer = fit(again, data, resumed, epochs=epochs, every=1000, resume=checkpoint)
        assert fingerprint(trainer, again, resumed) == expected, f"differs after resuming from {checkpoint.name}"
        assert again.answer() == answer
    return module
