"""Halving on NAS-Bench-201's table with the seconds of NATS-Bench, each data set searched by its own validation.

    export LIGHTNING_NAS_DATA=FOLDER
    python benchmarks/nasbench201_halving.py [--strategies multi_fidelity asha] [--seeds 100]

FOLDER holds nasbench201.npz. Rungs are 12 and 200 epochs, all that the table has; a training of 200 epochs takes the
seconds of all 200, since the table's trainings of 12 epochs have a schedule of their own. 32 trainings begin in a
bracket and one in eight goes on. A search proposes nothing more once 20,000, 40,000 and 120,000 simulated seconds are
spent on CIFAR-10, CIFAR-100 and ImageNet16-120; ``multi_fidelity`` makes one bracket.

A row is the mean and the standard error over the seeds of the test accuracy after 200 epochs of the answer, the most
seconds that a search took, and the mean number of epochs.
"""

import argparse
import logging
import math
import warnings
from statistics import fmean, stdev

import torch
from nasbench201_trials import TABLE, Bench, composed, show

from lightning_nas.truth.nasbench201 import DATASETS, table_file

SECONDS = {"cifar10": 20_000, "cifar100": 40_000, "imagenet16": 120_000}
ONE_BRACKET = 36


def main() -> None:
    known = ["multi_fidelity", "successive_halving", "asha"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=known, choices=known)
    parser.add_argument("--seeds", type=int, default=100)
    given = parser.parse_args()
    file = table_file(None)
    if file is None or not file.is_file():
        parser.error("LIGHTNING_NAS_DATA must name a folder with nasbench201.npz")
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    show(["strategy", "data set", "n", "test accuracy", "seconds at most", "epochs"])
    show(["---"] * 6)
    for place, (dataset, seconds) in enumerate(SECONDS.items()):
        bench = Bench(file, composed("strategy=random", *TABLE, f"engine.dataset={dataset}"))
        for name in given.strategies:
            how = ["strategy.rungs=[12,200]", "strategy.eta=8", f"strategy.seconds={seconds}"]
            how += [] if name == "asha" else ["strategy.initial=32"]
            how += [f"strategy.trials={ONE_BRACKET}"] if name == "multi_fidelity" else []
            config = composed(f"strategy={name}", *TABLE, *how).strategy
            found, took, epochs = list[float](), list[float](), list[int]()
            for seed in range(given.seeds):
                module = bench.search(config, seed)
                found.append(bench.tested[module.answer().options][place])
                took.append(module.clock)
                epochs.append(sum(trial.epochs or 0 for trial, _ in module.history))
            error = stdev(found) / math.sqrt(len(found)) if len(found) > 1 else 0.0
            accuracy = f"{fmean(found):.2f} ± {error:.2f}"
            shown = list(DATASETS.values())[place]
            show([name, shown, str(len(found)), accuracy, f"{max(took):,.0f}", f"{fmean(epochs):,.0f}"])


if __name__ == "__main__":
    main()
