"""Scores without training inside of searches on NAS-Bench-201's table: a warm start, and inputs of BANANAS' predictors.

    export LIGHTNING_NAS_DATA=FOLDER
    python benchmarks/warm_starts.py [--seeds 50]

FOLDER holds nasbench201.npz and nasbench201_zerocost.npz, whose logsynflow and multiply-adds of CIFAR-10 take the place
of the scores of fresh networks, which would take hours. Searches look up the validation accuracy after 12 epochs on
CIFAR-10. A row has the mean and its 95 % interval (Student's) of the test accuracy after 200 epochs of the answer after
30 and after 100 trials, and the paired difference to the search without scores, with its interval.
"""

import argparse
import logging
import warnings
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from nasbench201_trials import TABLE, Bench, composed, show
from scipy.stats import t

from lightning_nas.architecture import Architecture
from lightning_nas.truth.nasbench201 import table_file

LENGTHS = (30, 100)
WARM = "strategy.warm_start={proxy: logsynflow, draw: 200, take: 10}"
ROWS = {
    "random": [("", []), ("warm start", [WARM])],
    "evolution": [("", []), ("warm start", [WARM])],
    "local_search": [("", []), ("warm start", [WARM])],
    "bananas": [
        ("", []),
        ("warm start", [WARM]),
        ("features", ["strategy.features=[macs,logsynflow]"]),
        ("both", [WARM, "strategy.features=[macs,logsynflow]"]),
    ],
}


def answers(module: Any, tested: dict[tuple[str, ...], Sequence[float]]) -> list[float]:
    """The test accuracy of the best architecture of the first trials."""
    found = []
    for length in LENGTHS:
        known = [(reward, -place, trial) for place, (trial, reward) in enumerate(module.history[:length])]
        found.append(tested[max(known, key=lambda entry: entry[:2])[2].architecture.options][0])
    return found


def interval(values: Sequence[float], form: str = "{:.2f}") -> str:
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{form.format(np.mean(values))} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    given = parser.parse_args()
    file = table_file(None)
    if file is None or not file.is_file():
        parser.error("LIGHTNING_NAS_DATA must name a folder with nasbench201.npz")
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    bench = Bench(file, composed("strategy=random", *TABLE))
    with np.load(file, allow_pickle=False) as table, np.load(file.with_name("nasbench201_zerocost.npz")) as scores:
        columns = {"macs": table["flops_c10"], "logsynflow": scores["c10_logsynflow"]}
        rows = {bench.space.from_string(cell).options: row for row, cell in enumerate(table["arch"].tolist())}

    def known(name: str, space: Any, architectures: Sequence[Architecture], *_: Any) -> list[float]:
        return [float(columns[name][rows[architecture.options]]) for architecture in architectures]

    show(["strategy", "scores", "n", *(f"{n} trials" for n in LENGTHS), *(f"difference, {n}" for n in LENGTHS)])
    show(["---"] * 7)
    with (
        patch("lightning_nas.strategies.warm_start.fresh_scores", known),
        patch("lightning_nas.strategies.multi_trial.bananas.fresh_scores", known),
    ):
        for name, variants in ROWS.items():
            without = np.empty(0)
            for scored, how in variants:
                config = composed(f"strategy={name}", *TABLE, f"strategy.trials={max(LENGTHS)}", *how).strategy
                found = [answers(bench.search(config, seed), bench.tested) for seed in range(given.seeds)]
                after = np.array(found).T
                without = after if not scored else without
                gained = [interval(row, "{:+.2f}") if scored else "" for row in after - without]
                show([name, scored or "none", str(given.seeds), *map(interval, after), *gained])


if __name__ == "__main__":
    main()
