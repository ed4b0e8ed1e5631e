"""Searches by trials on NAS-Bench-201's table by equal numbers of queries, with paired intervals.

    export LIGHTNING_NAS_DATA=FOLDER
    python benchmarks/nasbench201_queries.py [--strategies bananas random] [--seeds 100] [--epochs 12 200]

FOLDER holds nasbench201.npz. A search sees the validation accuracy of ``--datasets`` after ``--epochs`` epochs and
makes 200 trials, with the settings of its file in conf/strategy and one proposal open at a time; a repeated cell is a
trial.

A line of the result is one search: its strategy, epochs, data set, seed, and the test accuracies of its answer after
100 and after 200 queries. Lines are added to nasbench201_queries.jsonl beside this file; what is there is not searched
again. At the end means with standard errors are printed, the ceiling of the selection metric (the test accuracy of the
cell with the best validation accuracy), and the difference of ``--against`` to every other strategy over equal seeds:
its mean, and the 95 % interval of the bootstrap over the pairs. ``--strategies`` without a name prints what there is.
"""

import argparse
import json
import logging
import math
import warnings
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from nasbench201_trials import TABLE, Bench, composed, show

from lightning_nas.functional.comparing import pooled, stratified_interval
from lightning_nas.training.seeding import generator
from lightning_nas.truth.nasbench201 import DATASETS, NasBench201Table, table_file

FOUND = Path(__file__).with_suffix(".jsonl")
QUERIES = (100, 200)
Key = tuple[str, int, str]


def searched(bench: Bench, name: str, seed: int) -> dict[str, list[float]]:
    """Test accuracies on all data sets of the best so far by validation, after each number of queries."""
    config = composed(f"strategy={name}", *TABLE, f"strategy.trials={QUERIES[-1]}", "strategy.seconds=null").strategy
    config.in_flight = 1
    history = list(bench.search(config, seed).history)
    found = {}
    for queries in QUERIES:
        best, _ = max(history[:queries], key=lambda pair: pair[1])
        found[str(queries)] = list(bench.tested[best.architecture.options])
    return found


def ceiling(table: NasBench201Table, dataset: Any, epochs: Any) -> float:
    """Test accuracy of the cell with the best validation accuracy."""
    best = max(table.cells, key=lambda cell: table.accuracy(cell, dataset, "valid", epochs))
    return 100 * table.accuracy(best, dataset)


def report(lines: list[dict[str, Any]], file: Path, against: str) -> None:
    """The tables of all there is."""
    rows: dict[Key, dict[int, dict[str, list[float]]]] = {}
    for line in lines:
        rows.setdefault((line["dataset"], line["epochs"], line["strategy"]), {})[line["seed"]] = line["test"]
    columns = [(dataset, "valid", epochs) for dataset in DATASETS for epochs in (12, 200)]
    table = NasBench201Table(file, [*columns, *((dataset, "test", 200) for dataset in DATASETS)])  # type: ignore[list-item]
    show(["selected by", *DATASETS.values()])
    show(["---"] * 4)
    for epochs in (12, 200):
        show([f"ceiling, {epochs} epochs", *(f"{ceiling(table, dataset, epochs):.2f}" for dataset in DATASETS)])
    print()
    show(["strategy", "selected by", "queries", "n", *DATASETS.values(), f"CIFAR-10: {against} above it, 95 %"])
    show(["---"] * 8)
    for (dataset, epochs, name), runs in sorted(rows.items()):
        ours = rows.get((dataset, epochs, against), {})
        for queries in map(str, QUERIES):
            values = list(zip(*(test[queries] for test in runs.values()), strict=True))
            cells = [f"{fmean(v)} ± {stdev(v) / math.sqrt(len(v))}" if len(v) > 1 else f"{v[0]}" for v in values]
            cells = [" ± ".join(f"{float(part):.2f}" for part in cell.split(" ± ")) for cell in cells]
            pairs = [ours[seed][queries][0] - test[queries][0] for seed, test in runs.items() if seed in ours]
            show([name, f"{dataset}, {epochs}", queries, str(len(runs)), *cells, paired(pairs, name, against)])


def paired(differences: list[float], name: str, against: str) -> str:
    if name == against or len(differences) < 2:
        return ""
    pairs = torch.tensor(differences, dtype=torch.float64)
    low, high = stratified_interval(pooled(lambda v: v.mean(-1)), [pairs], generator(0, "pairs"))
    return f"{pairs.mean().item():+.3f} [{low:+.3f}, {high:+.3f}], n {len(pairs)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="*", default=["random", "evolution", "optuna", "local_search", "bananas"])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--epochs", nargs="+", type=int, default=[12, 200], choices=[12, 200])
    parser.add_argument("--datasets", nargs="+", default=["cifar10"], choices=list(DATASETS))
    parser.add_argument("--against", default="bananas")
    given = parser.parse_args()
    file = table_file(None)
    if file is None or not file.is_file():
        parser.error("LIGHTNING_NAS_DATA must name a folder with nasbench201.npz")
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    lines = [json.loads(line) for line in FOUND.read_text().splitlines()] if FOUND.is_file() else []
    known = {(line["strategy"], line["epochs"], line["dataset"], line["seed"]) for line in lines}
    for dataset in given.datasets:
        for epochs in given.epochs:
            wanted = [(seed, name) for seed in range(given.seeds) for name in given.strategies]
            wanted = [(seed, name) for seed, name in wanted if (name, epochs, dataset, seed) not in known]
            engine = [f"engine.epochs={epochs}", f"engine.dataset={dataset}"]
            bench = Bench(file, composed("strategy=random", *TABLE, *engine)) if wanted else None
            for seed, name in wanted:
                assert bench is not None
                line = {"strategy": name, "epochs": epochs, "dataset": dataset, "seed": seed}
                lines.append(line | {"test": searched(bench, name, seed)})
                with FOUND.open("a", encoding="utf-8") as found:
                    found.write(json.dumps(lines[-1]) + "\n")
    report(lines, file, given.against)


if __name__ == "__main__":
    main()
