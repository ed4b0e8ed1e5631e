"""Train every network of ``search_space=tiny`` with three seeds, and write the table that the package ships.

    python benchmarks/tiny/make.py --path FASHION_MNIST.npz [--jobs 2] [--seeds 3]
    python benchmarks/tiny/make.py --latency
    python benchmarks/tiny/make.py --write

Trainings are those of the library (``ShortTraining``): 4 epochs of batches of 250, SGD with a rate of 0.2 that falls as
a cosine, on the 10,500 images of ``dataset=tiny`` that are left for training. The validation part is scored after each
epoch, the test part at the end. Results are kept in ``benchmarks/tiny/trainings.npz``; what it holds is not trained
again, so the command goes on where it stopped. A training takes 6 s of a core. ``--latency`` measures the networks, one
after the other, on a machine that should do nothing else. ``--write`` writes the complete seeds to the package.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.optim import SGD
from tqdm import tqdm

from lightning_nas.architecture import Architecture
from lightning_nas.data.tiny import TinyImages
from lightning_nas.files import atomic
from lightning_nas.latency.measure import measure
from lightning_nas.ops.counts import count_macs, count_params
from lightning_nas.spaces.chains.tiny import TinySpace
from lightning_nas.tasks.classification import Classification
from lightning_nas.truth.short_training import EachEpoch, ShortTraining
from lightning_nas.truth.tiny import EPOCHS, FILE, NETWORKS

MISSING = 2**16 - 1
TASK = Classification()
_kept: dict[str, TinyImages] = {}  # the images of a worker


def architecture(options: tuple[str, ...]) -> Architecture:
    return Architecture("tiny", tuple(zip((d.name for d in TinySpace().decisions), options, strict=True)))


def train(path: str, options: tuple[str, ...], seed: int) -> tuple[list[int], int, float]:
    """Validation images that are right after each epoch, test images at the end, and CPU seconds of the training."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if path not in _kept:
        _kept[path] = TinyImages(path=path, seed=0)
        _kept[path].setup("fit")
    data, space = _kept[path], TinySpace()

    def right(network: nn.Module, part: Literal["val", "test"]) -> int:
        score = TASK.score(network, data.evaluation_loader(part, searched=True), space.num_classes)
        return round(score * data.sizes[part])

    val: list[int] = []
    sgd = partial(SGD, lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4)
    how = ShortTraining(epochs=EPOCHS, optimizer=sgd)
    start = time.process_time()
    look = EachEpoch(lambda network: val.append(right(network, "val")))
    network = how.fit(space, architecture(options), data, TASK, seed, [look])
    seconds = time.process_time() - start
    return val, right(network, "test"), seconds


def costs() -> dict[str, np.ndarray[Any, Any]]:
    """Parameters and multiply-adds of every network."""
    space = TinySpace()
    made = [space.network(architecture(options)) for options in NETWORKS]
    return {
        "params": np.array([count_params(network) for network in made], dtype=np.int32),
        "macs": np.array([count_macs(network, space.input_shape) for network in made], dtype=np.int32),
    }


def empty(seeds: int) -> dict[str, np.ndarray[Any, Any]]:
    """A table in which nothing is trained."""
    n = len(NETWORKS)
    return {
        "networks": np.array([" ".join(options) for options in NETWORKS]),
        "val": np.full((n, seeds, EPOCHS), MISSING, dtype=np.uint16),
        "test": np.full((n, seeds), MISSING, dtype=np.uint16),
        "seconds": np.zeros((n, seeds), dtype=np.float32),
        **costs(),
        "ms": np.zeros(n, dtype=np.float32),
    }


def save(table: dict[str, np.ndarray[Any, Any]], file: Path) -> None:
    with atomic(file, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **table)


def train_all(table: dict[str, np.ndarray[Any, Any]], file: Path, path: str, *, seeds: int, jobs: int) -> None:
    """Train what is missing, one seed after the other, and save the table after each training."""
    order = np.random.default_rng(0).permutation(len(NETWORKS))  # what there is of a seed is a fair sample
    todo = [(row, seed) for seed in range(seeds) for row in order if table["test"][row, seed] == MISSING]
    with ProcessPoolExecutor(jobs) as pool:
        running = {pool.submit(train, path, NETWORKS[row], seed): (row, seed) for row, seed in todo}
        for ended in tqdm(as_completed(running), total=len(running)):
            row, seed = running[ended]
            table["val"][row, seed], table["test"][row, seed], table["seconds"][row, seed] = ended.result()
            save(table, file)


def measure_all(table: dict[str, np.ndarray[Any, Any]]) -> None:
    """Measure the latency of every network, in ms, on one thread."""
    torch.set_num_threads(1)
    space = TinySpace()
    for row in tqdm(range(len(NETWORKS))):
        table["ms"][row] = measure(space.network(architecture(NETWORKS[row])), space.input_shape).median_ms


def complete(table: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """The table of the seeds that every network was trained with."""
    seeds = np.flatnonzero((table["test"] != MISSING).all(0))
    return table | {name: table[name][:, seeds] for name in ("val", "test", "seconds")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", help="numpy file: x_train, y_train, x_test, y_test of Fashion-MNIST")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--file", type=Path, default=Path(__file__).with_name("trainings.npz"))
    given = parser.parse_args()
    table = dict(np.load(given.file, allow_pickle=False)) if given.file.exists() else empty(given.seeds)
    if given.latency:
        measure_all(table)
        save(table, given.file)
    elif given.write:
        save(complete(table), FILE)
    elif given.path:
        train_all(table, given.file, given.path, seeds=given.seeds, jobs=given.jobs)
    else:
        parser.error("give --path FILE, --latency or --write")


if __name__ == "__main__":
    main()
