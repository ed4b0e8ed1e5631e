"""Every search by trials on NAS-Bench-201's table with the benchmark's own budget, judged by tabulated test accuracy.

    export LIGHTNING_NAS_DATA=FOLDER
    python benchmarks/nasbench201_trials.py [KEY=VALUE ...] [--strategies evolution random] [--seeds 500]
    python benchmarks/nasbench201_trials.py --speed

FOLDER holds nasbench201.npz. The strategies are those of conf/strategy that train children, with the settings of their
files; KEY=VALUE goes to each of them, and ``--named NAME`` calls the row of a single one otherwise. A search sees the
validation accuracy of CIFAR-10 after 12 epochs, and ends when 12,000 simulated seconds of training are spent. Each
search is Lightning's loop with the ledger; ``trials.csv`` is left out.

A row is the mean and the deviation over the seeds of the test accuracy after 200 epochs of the cell a search answers
with, and what each search took. What a run finds is kept in nasbench201_trials.json beside this file; rows of earlier
runs stay, and nasbench201_trials.svg draws all: the test accuracy on CIFAR-10 of the best so far, by simulated seconds.

``--speed`` is the whole command instead, with trials.csv, metrics.csv and checkpoints: trials a second of the search,
once as it is typed, with W&B and 10 trials a batch of Lightning's loop, whose metrics are logged; and once for speed,
without W&B, with 50 trials a batch and metrics of every fourth.
"""

import argparse
import csv
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from matplotlib import rc_context
from omegaconf import DictConfig, OmegaConf

from lightning_nas.cli.command import conf_dir
from lightning_nas.cli.job import ConfiguredJob
from lightning_nas.latency.sources import Macs
from lightning_nas.report.theme import SERIES, dress, new_figure
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.training.seeding import seeded
from lightning_nas.trials.engines.base import Engine
from lightning_nas.truth.nasbench201 import DATASETS, NasBench201Table, table_file

FOUND = Path(__file__).with_suffix(".json")
PICTURE = Path(__file__).with_suffix(".svg")
ON_TABLE = ["engine=table", "search_space=nasbench201"]
TABLE = [*ON_TABLE, "latency_table=macs", "logger=none", "paths.output=."]
PUBLISHED = {  # NAS-Bench-201's Table 5
    "published, random": ((93.70, 0.36), (71.04, 1.07), (44.57, 1.25)),
    "published, regularized evolution": ((93.92, 0.30), (71.84, 0.99), (45.54, 1.03)),
    "published, REINFORCE": ((93.85, 0.37), (71.71, 1.09), (45.24, 1.18)),
    "published, BOHB": ((93.61, 0.52), (70.85, 1.28), (44.42, 1.49)),
}
_MANNERS = {
    "as typed": (),
    "for speed": ("latency_table=macs", "logger=csv", "strategy.trials_per_step=50", "trainer.log_every_n_steps=4"),
}
GRID = [200.0 * step for step in range(1, 61)]  # simulated seconds


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose("config", list(overrides))


def by_trials() -> list[str]:
    """The strategies that train children."""
    files = sorted((Path(conf_dir()) / "strategy").glob("*.yaml"))
    return [file.stem for file in files if "/engine@" in file.read_text(encoding="utf-8")]


class Bench:
    """What all searches have in common."""

    def __init__(self, file: Path, config: DictConfig) -> None:
        content = OmegaConf.to_container(config, resolve=False)
        assert isinstance(content, dict)
        content["search_space"] = OmegaConf.to_container(config.search_space, resolve=True)
        self.engine: Engine = instantiate(config.engine)(ConfiguredJob(content))
        self.space, self.task = instantiate(config.search_space), instantiate(config.task)
        self.costs = Macs()(self.space)
        table = NasBench201Table(file, [(dataset, "test", 200) for dataset in DATASETS])
        strings = {self.space.from_string(cell).options: cell for cell in table.cells}
        self.tested = {
            options: tuple(100 * table.accuracy(cell, dataset) for dataset in DATASETS)
            for options, cell in strings.items()
        }

    def search(self, config: DictConfig, seed: int) -> TrialSearch:
        with seeded(seed, "supernet"):
            made = instantiate(config)(self.space, self.task, self.costs, engine=self.engine, seed=seed)
        assert isinstance(made, TrialSearch)
        quiet: dict[str, Any] = dict.fromkeys(
            ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
        )
        with tempfile.TemporaryDirectory() as folder:
            trainer = pl.Trainer(accelerator="cpu", devices=1, max_epochs=1, default_root_dir=folder, **quiet)
            trainer.fit(made)
        return made

    def row(self, config: DictConfig, seeds: int) -> dict[str, Any]:
        """What the searches of one strategy found."""
        found, curves, trials, began = [], [], [], time.process_time()
        for seed in range(seeds):
            module = self.search(config, seed)
            found.append(self.tested[module.answer().options])
            curves.append(self.anytime(module))
            trials.append(len(module.history))
        took = (time.process_time() - began) / seeds
        means = [fmean(column) for column in zip(*found, strict=True)]
        spreads = [stdev(column) if seeds > 1 else 0.0 for column in zip(*found, strict=True)]
        curve = [round(mean, 4) for mean in np.mean(curves, 0).tolist()]
        return {
            "seeds": seeds,
            "test": [[round(mean, 4), round(spread, 4)] for mean, spread in zip(means, spreads, strict=True)],
            "trials": round(fmean(trials), 1),
            "cpu_seconds": round(took, 2),
            "anytime": curve,
        }

    def anytime(self, module: TrialSearch) -> list[float]:
        """CIFAR-10's test accuracy of the best so far, at each time of the grid; 10 before there is one."""
        best, clock, place, values = -1.0, 0.0, 0, [10.0] * len(GRID)
        accuracy = 10.0
        for trial, reward in module.history:
            clock += trial.seconds
            while place < len(GRID) and GRID[place] < clock:
                values[place], place = accuracy, place + 1
            if reward > best:
                best, accuracy = reward, self.tested[trial.architecture.options][0]
        return values[:place] + [accuracy] * (len(GRID) - place)


def show(cells: list[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def report(results: dict[str, Any], bench: Bench) -> None:
    """The table of all there is, and the picture."""
    head = ["strategy", "seeds", *DATASETS.values(), "trials a search", "CPU seconds a search"]
    show(head)
    show(["---"] * len(head))
    best = [max(column) for column in zip(*bench.tested.values(), strict=True)]
    show(["the best cell", "", *(f"{value:.2f}" for value in best), "", ""])
    for name, figures in PUBLISHED.items():
        show([name, "500", *(f"{mean:.2f} ± {spread:.2f}" for mean, spread in figures), "", ""])
    for name, row in sorted(results.items()):
        cells = [f"{mean:.2f} ± {spread:.2f}" for mean, spread in row["test"]]
        show([name, str(row["seeds"]), *cells, f"{row['trials']:.0f}", f"{row['cpu_seconds']:.2f}"])
    draw(results, best[0])


def draw(results: dict[str, Any], best: float) -> None:
    """The anytime curves."""
    figure = new_figure(9.6, 4.4)
    axes = figure.add_subplot()
    for place, (name, row) in enumerate(sorted(results.items(), key=lambda entry: -entry[1]["anytime"][-1])):
        style = ("-", "--", ":", "-.")[place // len(SERIES) % 4]
        axes.plot(GRID, row["anytime"], style, color=SERIES[place % len(SERIES)], linewidth=1.4, label=name)
    axes.axhline(best, color="black", linewidth=0.6)
    axes.set_ylim(91.5, 94.6)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8, title="best at the end first")
    x, y = "simulated seconds of training", "test accuracy on CIFAR-10, percent"
    dress(axes, title="NAS-Bench-201: the best so far by validation", x=x, y=y)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "trials"}):
        figure.savefig(PICTURE, metadata={"Date": None})


def speed(name: str, trials: int, how: str) -> list[str]:
    """One run of the command; the cells of its row."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        settings = [f"strategy.trials={trials}", "strategy.seconds=null", f"hydra.run.dir={folder}", *_MANNERS[how]]
        command = [sys.executable, "-m", "lightning_nas.run", f"strategy={name}", *ON_TABLE, *settings]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=scratch)
        seconds = json.loads((folder / "result.json").read_text())["search_seconds"]
        with (folder / "trials.csv").open() as file:
            rows = sum(1 for _ in csv.DictReader(file))
    return [f"{name}, {how}", str(rows), f"{seconds:.1f}", f"{rows / seconds:.0f}"]


def main() -> None:
    known = by_trials()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--strategies", nargs="+", default=known, choices=known, help="all unless given")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--named", help="the row's name, for one strategy under other settings")
    parser.add_argument("--speed", type=int, nargs="?", const=20000, metavar="TRIALS", help="trials a second instead")
    given = parser.parse_intermixed_args()
    file = table_file(None)
    if file is None or not file.is_file():
        parser.error("LIGHTNING_NAS_DATA must name a folder with nasbench201.npz")
    print(f"{' '.join(sys.argv[1:])}; torch {torch.__version__}; load {os.getloadavg()[0]:.1f}\n")
    if given.speed:
        show(["strategy", "trials", "seconds", "trials a second"])
        show(["---"] * 4)
        for name in [name for name in given.strategies if name in ("evolution", "random")]:
            for how in _MANNERS:
                show(speed(name, given.speed, how))
        return
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    results = json.loads(FOUND.read_text()) if FOUND.is_file() else {}
    bench = Bench(file, composed("strategy=random", *TABLE))
    for name in given.strategies:
        config = composed(f"strategy={name}", *TABLE, *given.settings).strategy
        results[given.named or name] = bench.row(config, given.seeds)
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in sorted(results.items()))
        FOUND.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    report(results, bench)


if __name__ == "__main__":
    main()
