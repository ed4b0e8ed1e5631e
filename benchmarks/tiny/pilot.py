"""Do training seeds agree about the networks of a small space, and do costs give the ranking away?

    python benchmarks/tiny/pilot.py --path FASHION_MNIST.npz --options conv_1x1,depthwise_3x3,avg_pool_3x3
        [--channels 24] [--epochs 4] [--batch 250] [--rate 0.2] [--networks 60] [--seeds 2] [--out FOLDER]

Trains random networks of the space alone, with several seeds each, by the library's own training of a rank check's
truth. Every training is a line of a file in FOLDER, one file a setting, and what is there is not trained again. At the
end: Kendall's tau between seeds over all networks and over the best tenth, the spread of these beside the noise of
seeds, and how multiply-adds and parameters rank the networks. A benchmark needs at least .75 between seeds, .4 over the
best tenth, and at most .6 for the costs.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch.optim import SGD
from tqdm import tqdm

from lightning_nas.architecture import Architecture
from lightning_nas.data.tiny import TinyImages
from lightning_nas.functional.ranking import kendall_tau
from lightning_nas.ops.counts import count_macs, count_params
from lightning_nas.spaces.chains.tiny import TinySpace
from lightning_nas.tasks.classification import Classification
from lightning_nas.truth.short_training import EachEpoch, ShortTraining

TASK = Classification()
PARTS = ("val", "test")


def trained(space: TinySpace, how: ShortTraining, a: Architecture, seed: int, data: TinyImages) -> dict[str, Any]:
    """Images that are classified rightly after every epoch, and the CPU seconds of training and evaluation."""
    right: dict[str, list[int]] = {part: [] for part in PARTS}

    def look(network: torch.nn.Module) -> None:
        for part in PARTS:
            loader = data.evaluation_loader(part, searched=True)
            right[part].append(round(TASK.score(network, loader, space.num_classes) * data.sizes[part]))

    start = time.process_time()
    how.fit(space, a, data, TASK, seed, [EachEpoch(look)])
    return {"network": " ".join(a.options), "seed": seed, **right, "seconds": round(time.process_time() - start, 2)}


def agreement(space: TinySpace, architectures: list[Architecture], right: torch.Tensor, images: int) -> None:
    """Print what the trainings show.

    Args:
        space: of the networks.
        architectures: n of them.
        right: (n, seeds) test images that were classified rightly at the end.
        images: number of test images.
    """
    mean = right.mean(1)
    pairs = list(combinations(range(right.shape[1]), 2))

    def between(rows: torch.Tensor) -> str:
        return ", ".join(f"{kendall_tau(right[rows, i], right[rows, j]).item():.3f}" for i, j in pairs)

    print(f"{len(right)} networks, test accuracy {mean.min() / images:.2%} to {mean.max() / images:.2%}")
    order = mean.argsort(descending=True)
    for name, count in (("all", len(right)), ("best half", len(right) // 2), ("best tenth", max(6, len(right) // 10))):
        rows = order[:count]
        noise, spread = (right[rows].var(1).mean().sqrt() / images).item(), (mean[rows].std() / images).item()
        print(f"{name}, {count}: tau between seeds {between(rows)}; noise of seeds {noise:.4f}, spread {spread:.4f}")
    macs = [count_macs(space.network(a), space.input_shape) for a in architectures]
    params = [count_params(space.network(a)) for a in architectures]
    for name, costs in (("multiply-adds", macs), ("parameters", params)):
        print(f"tau of {name} with the mean over seeds: {kendall_tau(torch.tensor(costs).double(), mean).item():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True, help="numpy file: x_train, y_train, x_test, y_test of Fashion-MNIST")
    parser.add_argument("--options", default="conv_1x1,depthwise_3x3,avg_pool_3x3")
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("tiny_pilot"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = TinyImages(path=given.path, batch_size=given.batch)
    data.setup("fit")
    space = TinySpace(channels=given.channels, operations=given.options.split(","))
    sgd = partial(SGD, lr=given.rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    how = ShortTraining(epochs=given.epochs, optimizer=sgd)
    chosen = space.different(given.networks, torch.Generator().manual_seed(0))
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"{given.options}-{given.channels}-{given.epochs}-{given.batch}-{given.rate:g}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    known = {(line["network"], line["seed"]): line for line in lines}
    with file.open("a") as stream:
        for a, seed in tqdm([(a, seed) for a in chosen for seed in range(given.seeds)]):
            if (place := (" ".join(a.options), seed)) not in known:
                known[place] = trained(space, how, a, seed, data)
                stream.write(json.dumps(known[place]) + "\n")
                stream.flush()
    ends = [[known[" ".join(a.options), seed]["test"][-1] for seed in range(given.seeds)] for a in chosen]
    agreement(space, chosen, torch.tensor(ends, dtype=torch.float64), data.sizes["test"])


if __name__ == "__main__":
    main()
