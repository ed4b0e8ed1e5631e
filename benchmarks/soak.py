"""Speed, memory and the time of a resume of a search by very many trials that take no time.

    python benchmarks/soak.py --trials 1000000 --strategy evolution

prints a line for every 50,000 trials: trials a second of processor time, which other work on the machine changes less
than those of the clock, and resident memory of the process. At the end another process resumes the finished search.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.trial_logger import TrialLogger
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.multi_trial.local_search import LocalSearch
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.strategies.multi_trial.regularized_evolution import RegularizedEvolution
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.checkpoint import newest
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.requests import Request, Response

STRATEGIES: dict[str, Any] = {
    "random": (RandomSearch, {}),
    "evolution": (RegularizedEvolution, {"population": 100, "sample": 25}),
    "local": (LocalSearch, {}),
}
LAYERS = 20  # 3.5e9 architectures
PER_STEP = 100  # trials of one batch of the loop
SHOWN = 50_000


class Instant(Engine):
    """Gives every architecture a figure without training it."""

    instant = True

    def __init__(self) -> None:
        self._asked: list[Request] = []

    @property
    def slots(self) -> int:
        return 1

    def submit(self, request: Request) -> None:
        self._asked.append(request)

    def finished(self, timeout: float) -> list[Response]:
        del timeout
        asked, self._asked = self._asked, []
        return [Response(r.trial, r.attempt, "finished", (figure(r.architecture),), 1.0) for r in asked]


def figure(architecture: Architecture) -> float:
    """The share of layers that keep the image, and a little that depends on all options."""
    options = architecture.options
    return (options.count("keep") + int(architecture.key[:6], 16) / 2**24) / (len(options) + 1)


class Watch(pl.Callback):
    """Prints a line every ``SHOWN`` trials."""

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self.since, self.shown = time.process_time(), len(module.history)

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        if (done := len(module.history)) >= self.shown + SHOWN:
            now = time.process_time()
            print(
                f"{done:>9,} trials  {(done - self.shown) / (now - self.since):7.0f} / s  {resident():6.0f} MB",
                flush=True,
            )
            self.since, self.shown = now, done


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def search(folder: Path, strategy: str, trials: int, every: int) -> TrialSearch:
    """Search in a folder, from its last checkpoint if there is one."""
    space: SearchSpace = ToySpace(LAYERS)
    made, options = STRATEGIES[strategy]
    module: TrialSearch = made(space, engine=Instant(), trials=trials, trials_per_step=PER_STEP, **options)
    found = newest(folder / "checkpoints" / "last.ckpt")
    fit(
        module,
        None,
        folder,
        epochs=1,
        every=max(1, every // PER_STEP),
        keep=2,
        resume=found and found[0],
        callbacks=[TrialLogger(), Watch()],
        log_every_n_steps=50,
    )
    return module


def main() -> None:
    """Run the search, then resume it in another process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--strategy", choices=STRATEGIES, default="evolution")
    parser.add_argument("--every", type=int, default=5_000, help="trials between two checkpoints")
    parser.add_argument("--resume", type=Path, help="folder of a search to resume; used by the command itself")
    chosen = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if chosen.resume:
        began = time.perf_counter(), time.process_time()
        search(chosen.resume, chosen.strategy, chosen.trials, chosen.every)
        took = time.perf_counter() - began[0], time.process_time() - began[1]
        print(f"resumed at the end in {took[0]:.1f} s, {took[1]:.1f} of the processor, {resident():.0f} MB")
        return
    with tempfile.TemporaryDirectory() as name:
        print(f"{chosen.strategy}: {chosen.trials:,} trials; {resident():.0f} MB at the start", flush=True)
        module = search(Path(name), chosen.strategy, chosen.trials, chosen.every)
        files = ("trials.jsonl", "trials.csv", "trials.index", "checkpoints/last.ckpt")
        sizes = {file: (Path(name) / file).stat().st_size for file in files}
        print(", ".join(f"{file} {size / len(module.history):.1f} bytes a trial" for file, size in sizes.items()))
        same = [sys.executable, __file__, *sys.argv[1:], "--resume", name]
        subprocess.run(same, check=True)


if __name__ == "__main__":
    main()
