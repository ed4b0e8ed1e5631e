"""Scores without training on NAS-Bench-201: how well they rank cells, beside published values, and what they cost.

    export LIGHTNING_NAS_DATA=FOLDER
    python benchmarks/proxies.py [--cells 500] [--others 100] [--images 32] [--scores FILE] [--report]

FOLDER holds nasbench201.npz, nasbench201_zerocost.npz and cifar10_sub_4k_1k.npz. Cells are drawn without replacement
with seed 0; each is built as a fresh network of the benchmark (16 channels, 5 cells a stage) and scored on one batch of
CIFAR-10 images, for all three data sets: no network is built for CIFAR-100 or ImageNet16-120. The cheap scores are
computed for all ``--cells``, the others for the first ``--others`` of them. 12 epochs of training and the npz's own
scores of the same cells stand beside them.

A row is Spearman's rho and Kendall's tau with the tabulated test accuracy after 200 epochs, both with the 95 %
interval of a bootstrap over cells, rho within the cells that are of the best tenth of the whole table, and
milliseconds a cell. A score that is not finite ranks last. ``--scores FILE`` keeps what was computed, line by line, so
that a run that was stopped goes on; ``--report`` only prints what FILE holds.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_nas.functional.ranking import bootstrap_interval, diverged_last, kendall_tau, spearman
from lightning_nas.proxies import (
    fisher,
    grad_norm,
    grasp,
    jacob_cov,
    logsynflow,
    naswot,
    plain,
    size,
    snip,
    swap,
    synflow,
    zen,
    zico,
)
from lightning_nas.proxies.az_nas import az_nas, log_rank_sum
from lightning_nas.proxies.base import Proxy
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.training.seeding import generator, seeded
from lightning_nas.truth.nasbench201 import table_file

CHEAP: dict[str, Proxy] = {
    "params": size.Params(),
    "synflow": synflow.Synflow(),
    "logsynflow": logsynflow.LogSynflow(),
    "naswot": naswot.Naswot(),
}
OTHERS: dict[str, Proxy] = {
    "macs": size.Macs(),
    "depth": size.Depth(),
    "swap": swap.Swap(),
    "jacob_cov": jacob_cov.JacobCov(),
    "snip": snip.Snip(),
    "plain": plain.Plain(),
    "grad_norm": grad_norm.GradNorm(),
    "fisher": fisher.Fisher(),
    "zico": zico.Zico(),
    "zen": zen.Zen(repeats=1),
    "grasp": grasp.Grasp(),
}
AZ = ("az_expressivity", "az_progressivity", "az_trainability", "az_complexity")
NPZ = {"npz synflow": "c10_log10_synflow", "npz logsynflow": "c10_logsynflow", "npz naswot": "c10_naswot"}
TRUTHS = {"CIFAR-10": "c10", "CIFAR-100": "c100", "ImageNet16-120": "in16"}
# rho/tau over all 15,625 cells, from the table of the APD paper
PUBLISHED = {
    "params": ("751/576", "726/552", "690/519"),
    "macs": ("751/576", "726/552", "690/519"),
    "snip": ("614/455", "618/461", "545/409"),
    "grasp": ("460/318", "470/329", "406/282"),
    "synflow": ("769/571", "758/562", "745/553"),
    "naswot": ("743/557", "769/579", "760/573"),
    "zen": ("365/283", "338/245", "372/260"),
    "zico": ("784/589", "813/620", "804/614"),
    "swap": ("810/634", "820/649", "774/610"),
    "az_nas": ("913/741", "900/723", "886/710"),
}


def read(name: str) -> dict[str, np.ndarray]:
    file = table_file(None)
    if file is None:
        raise SystemExit("set the environment variable LIGHTNING_NAS_DATA to the folder of the data")
    with np.load(file.parent / name, allow_pickle=False) as content:
        return dict(content)


def images(count: int) -> tuple[Tensor, Tensor]:
    """The first images of CIFAR-10's subset, each channel of mean 0 and deviation 1."""
    data = read("cifar10_sub_4k_1k.npz")
    x = torch.tensor(data["x_train"][:count]).permute(0, 3, 1, 2).float()
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    return x, torch.tensor(data["y_train"][:count]).long()


def drawn(cells: int) -> list[int]:
    """Numbers of cells in the order in which they are scored; fewer cells are the first of them."""
    order: list[int] = np.random.default_rng(0).permutation(15625)[:cells].tolist()
    return order


class Scores:
    """Scores and seconds by (cell, score), kept in a file."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.known = file, dict[tuple[int, str], tuple[float, float]]()
        if file is not None and file.exists():
            for line in file.read_text().splitlines():
                row, name, value, seconds = json.loads(line)
                self.known[row, name] = value, seconds

    def add(self, row: int, name: str, value: float, seconds: float) -> None:
        self.known[row, name] = value, seconds
        if self.file is not None:
            with self.file.open("a") as lines:
                lines.write(json.dumps([row, name, value, seconds]) + "\n")

    def columns(self, rows: list[int], name: str) -> tuple[list[int], list[float], float]:
        """The cells that have a score, the scores, and the median of milliseconds."""
        have = [row for row in rows if (row, name) in self.known]
        found = [self.known[row, name] for row in have]
        return have, [value for value, _ in found], 1e3 * float(np.median([seconds for _, seconds in found] or [0]))


def compute(args: argparse.Namespace, scores: Scores, table: dict[str, np.ndarray]) -> None:
    space = NASBench201Space()
    batch = images(args.images)
    for proxies, cells, az in [(CHEAP, args.cells, False), (OTHERS, args.others, True)]:
        for row in drawn(cells):
            missing = [name for name in proxies if (row, name) not in scores.known]
            az_missing = az and (row, AZ[0]) not in scores.known
            if not missing and not az_missing:
                continue
            with seeded(0, "benchmark", row):
                network = space.network(space.from_string(str(table["arch"][row])))
            for name in missing:
                began = time.perf_counter()
                value = proxies[name](network, batch, F.cross_entropy, generator(0, name, row))
                scores.add(row, name, value, time.perf_counter() - began)
            if az_missing:
                began = time.perf_counter()
                four = az_nas(network, batch[0], generator(0, "az_nas", row))
                for name, value in zip(AZ, four, strict=True):
                    scores.add(row, name, value, time.perf_counter() - began)


def tabulated(
    args: argparse.Namespace, scores: Scores, table: dict[str, np.ndarray]
) -> list[tuple[str, list[int], Tensor, float]]:
    """(name, cells, scores, milliseconds) of every row of the table."""
    rows = drawn(max(args.cells, args.others))
    found = []
    for name in [*CHEAP, *OTHERS]:
        have, values, cost = scores.columns(rows, name)
        if have:
            found.append((name, have, torch.tensor(values, dtype=torch.float64), cost))
    parts = [scores.columns(rows, name) for name in AZ]
    if parts[0][0]:
        four = torch.tensor([values for _, values, _ in parts], dtype=torch.float64).T
        found.append(("az_nas", parts[0][0], log_rank_sum(four), parts[0][2]))
    npz = read("nasbench201_zerocost.npz")
    rows = rows[: args.cells]
    found += [(name, rows, torch.tensor(npz[column][rows]).double(), 0.0) for name, column in NPZ.items()]
    return [*found, ("12 epochs", rows, torch.tensor(table["c10_test12"][rows]), 0.0)]


def finite(values: Tensor) -> Tensor:
    """Scores in which those that are not finite are the lowest."""
    return diverged_last(values.nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf))


def said(statistic: Callable[[Tensor, Tensor], Tensor], scores: Tensor, truth: Tensor, name: str) -> str:
    low, high = bootstrap_interval(statistic, scores, truth, generator(0, "bootstrap", name), resamples=500)
    return f"{statistic(scores, truth).item():.3f} [{low:.3f}, {high:.3f}]"


def report(args: argparse.Namespace, scores: Scores, table: dict[str, np.ndarray]) -> None:
    rows = tabulated(args, scores, table)
    for place, (title, prefix) in enumerate(TRUTHS.items()):
        accuracy = table[f"{prefix}_test200"]
        bar = np.quantile(accuracy, 0.9)
        print(f"\n{title}\n")
        print("| score | cells | rho [95 %] | tau [95 %] | published rho/tau | rho in the best tenth (cells) | ms |")
        print("|---|---|---|---|---|---|---|")
        for name, cells, values, cost in rows:
            truth, values = torch.tensor(accuracy[cells]), finite(values)
            if name == "12 epochs":
                values = torch.tensor(table[f"{prefix}_test12"][cells])
            top = truth >= bar
            both = [said(statistic, values, truth, name) for statistic in (spearman, kendall_tau)]
            best = f"{spearman(values[top], truth[top]).item():.2f} ({int(top.sum())})"
            printed = "/".join(f".{part}" for part in PUBLISHED[name][place].split("/")) if name in PUBLISHED else ""
            print(
                f"| {name} | {len(cells)} | {' | '.join(both)} | {printed} | {best} | {f'{cost:.0f}' if cost else ''} |"
            )
    for name, _, values, _ in rows:
        if lost := int((~values.isfinite()).sum()):
            print(f"\n{name}: {lost} of {len(values)} scores are not finite and rank last")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("cells", 500), ("others", 100), ("images", 32)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table, scores = read("nasbench201.npz"), Scores(args.scores)
    if not args.report:
        compute(args, scores, table)
    report(args, scores, table)


if __name__ == "__main__":
    main()
