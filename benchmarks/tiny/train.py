"""Train every network of the tiny space alone, with three seeds, and write the table that ships with the library.

    python benchmarks/tiny/train.py --path FASHION_MNIST.npz [--share 0/2] [--networks 60] [--minutes 30]
    python benchmarks/tiny/train.py --agreement
    python benchmarks/tiny/train.py --table

The first command trains what ``benchmarks/tiny/trainings/`` lacks, a line for each training, so it can be stopped and
repeated; several shares run side by side, each with a file of its own. The second says, of the networks that have all
seeds, how well these agree and how multiply-adds and parameters rank the networks. The third writes
``lightning_nas/truth/tiny.npz``.

The training is that of a rank check's truth (:class:`lightning_nas.truth.short_training.ShortTraining`) with the
settings below, in batches of 250. Accuracies after every epoch are of the 4,500 validation and the 5,000 test images.
Networks come in a random order, so that any part of the files is a sample of the space.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import SGD
from tqdm import tqdm

from lightning_nas.architecture import Architecture
from lightning_nas.data.tiny import TinyImages
from lightning_nas.functional.ranking import kendall_tau
from lightning_nas.ops.counts import count_macs, count_params
from lightning_nas.spaces.chains.tiny import OPTIONS, TinySpace
from lightning_nas.tasks.classification import Classification
from lightning_nas.truth.short_training import EachEpoch, ShortTraining

SEEDS, EPOCHS = 3, 4
HOW = ShortTraining(epochs=EPOCHS, optimizer=partial(SGD, lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4))
FILE = Path(__file__).parents[2] / "lightning_nas" / "truth" / "tiny.npz"
TRAININGS = Path(__file__).parent / "trainings"
SPACE, TASK = TinySpace(), Classification()
PARTS = {"valid": "val", "test": "test"}  # by the names of the table


def trained(architecture: Architecture, seed: int, data: TinyImages) -> dict[str, Any]:
    """Images that are classified rightly after every epoch, and the CPU seconds of training and evaluation."""
    right: dict[str, list[int]] = {name: [] for name in PARTS}

    def look(network: torch.nn.Module) -> None:
        for name, part in PARTS.items():
            loader = data.evaluation_loader(part, searched=True)
            right[name].append(round(TASK.score(network, loader, SPACE.num_classes) * data.sizes[part]))

    start = time.process_time()
    HOW.fit(SPACE, architecture, data, TASK, seed, [EachEpoch(look)])
    code = "".join(str(OPTIONS.index(option)) for option in architecture.options)
    return {"network": code, "seed": seed, **right, "seconds": round(time.process_time() - start, 2)}


def known() -> Iterator[dict[str, Any]]:
    """The trainings that were made."""
    for file in sorted(TRAININGS.glob("*.jsonl")):
        yield from map(json.loads, file.read_text().splitlines())


def train(path: str, share: tuple[int, int], count: int, minutes: float) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = TinyImages(path=path)
    data.setup("fit")
    every = SPACE.every()
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(0)).tolist()[:count]
    wanted = [(every[i], seed) for i in order for seed in range(SEEDS)]
    done = {(line["network"], line["seed"]) for line in known()}
    mine = wanted[share[0] :: share[1]]
    TRAININGS.mkdir(exist_ok=True)
    end = time.monotonic() + 60 * minutes
    with (TRAININGS / f"{share[0]}.jsonl").open("a") as file:
        for architecture, seed in tqdm(mine):
            code = "".join(str(OPTIONS.index(option)) for option in architecture.options)
            if (code, seed) not in done and time.monotonic() < end:
                file.write(json.dumps(trained(architecture, seed, data)) + "\n")
                file.flush()


def complete() -> tuple[list[Architecture], dict[str, np.ndarray[Any, Any]]]:
    """The networks with all seeds, and their (networks, seeds, epochs) right images; (networks, seeds) seconds."""
    found = {(line["network"], line["seed"]): line for line in known()}
    every = {"".join(str(OPTIONS.index(o)) for o in a.options): a for a in SPACE.every()}
    whole = [code for code in every if all((code, seed) in found for seed in range(SEEDS))]
    rows = {
        name: np.array([[found[code, seed][name] for seed in range(SEEDS)] for code in whole])
        for name in (*PARTS, "seconds")
    }
    return [every[code] for code in whole], rows


def agreement() -> None:
    """Print how well seeds agree, over all networks and over the best tenth, and how costs rank the networks."""
    some, rows = complete()
    test = torch.from_numpy(rows["test"])[:, :, -1].double()
    mean = test.mean(1)
    best = mean.argsort(descending=True)[: max(3, len(some) // 10)]
    pairs = [(0, 1), (0, 2), (1, 2)]

    def between(of: torch.Tensor) -> str:
        return ", ".join(f"{kendall_tau(of[:, i], of[:, j]).item():.3f}" for i, j in pairs)

    print(f"{len(some)} networks, test accuracy {mean.min() / 50:.2f} to {mean.max() / 50:.2f} %")
    print(f"Kendall's tau between seeds: {between(test)}; over the best tenth: {between(test[best])}")
    for name, count in (
        ("multiply-adds", partial(count_macs, input_shape=SPACE.input_shape)),
        ("parameters", count_params),
    ):
        costs = torch.tensor([float(count(SPACE.network(a))) for a in some])
        print(f"Kendall's tau of {name} with the mean over seeds: {kendall_tau(costs, mean).item():.3f}")
    validation = torch.from_numpy(rows["valid"])[:, :, -1].double().mean(1)
    print(
        f"Kendall's tau of validation with test accuracy, means over seeds: {kendall_tau(validation, mean).item():.3f}"
    )


def table() -> None:
    """Write the file that the library reads."""
    some, rows = complete()
    if len(some) != len(OPTIONS) ** len(SPACE.decisions):
        raise SystemExit(f"only {len(some)} networks have all seeds; run the trainings first")
    counts = {name: rows[name].astype(np.uint16) for name in PARTS}
    np.savez_compressed(FILE, **counts, seconds=rows["seconds"].mean(1).astype(np.float32))
    print(f"{FILE}: {FILE.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", help="numpy file with the images of Fashion-MNIST: x_train, y_train, x_test, y_test")
    parser.add_argument("--share", default="0/1", help="I/N: every N-th training from the I-th on")
    parser.add_argument("--networks", type=int, default=3**6)
    parser.add_argument("--minutes", type=float, default=1e6, help="start no training after that")
    parser.add_argument("--agreement", action="store_true")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.path:
        first, count = map(int, given.share.split("/"))
        train(given.path, (first, count), given.networks, given.minutes)
    if given.agreement:
        agreement()
    if given.table:
        table()


if __name__ == "__main__":
    main()
