"""Drawing a batch of architectures of ENAS' micro space and one update of the controller, here and in another project.

    python benchmarks/enas_controller.py PATH_TO_PEER [--batch 10 20 --threads 1 --repeats 20]

PATH_TO_PEER is a checkout of MengTianjian/enas-pytorch. Its controller draws one architecture at a time: for a batch it
does so as often, adds the gradients up and takes one step. Both have 5 nodes a cell, 64 hidden units and the script's
settings. Milliseconds an architecture, wall time and CPU time: medians, and the fastest of the repeats.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from lightning_nas.spaces.enas.micro import ENASMicroSpace
from lightning_nas.strategies.controllers.controller import Controller

ADAM = {"lr": 3.5e-3, "betas": (0.0, 0.999), "eps": 1e-3}


def ours(batch: int) -> Callable[[], None]:
    """A step of this library."""
    settings = {"learned_bias": {"sep_conv_3x3": 10.0, "sep_conv_5x5": 10.0}, "tanh_constant": 1.1}
    controller = Controller(ENASMicroSpace(), torch.Generator().manual_seed(0), op_tanh_reduce=2.5, **settings)
    optimizer, generator = torch.optim.Adam(controller.parameters(), **ADAM), torch.Generator().manual_seed(0)

    def step() -> None:
        drawn = controller.sample(batch, generator)
        optimizer.zero_grad()
        drawn.log_probabilities.mean().backward()
        optimizer.step()

    return step


def theirs(batch: int, path: Path) -> Callable[[], None]:
    """A step of the peer, whose tensors stay where they are instead of going to a GPU."""
    sys.path.insert(0, str(path))
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    sizes = {"child_num_branches": 5, "child_num_cells": 5, "lstm_size": 64, "lstm_num_layers": 1, "lstm_keep_prob": 0}
    shape = {"temperature": None, "controller_tanh_constant": 1.1, "controller_op_tanh_reduce": 2.5}
    controller = importlib.import_module("micro_controller").Controller(argparse.Namespace(**sizes, **shape))
    optimizer = torch.optim.Adam(controller.parameters(), **ADAM)

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(batch):
            _, log_probability, _ = controller()
            (log_probability.sum() / batch).backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("| batch | | wall | CPU | fastest wall | fastest CPU |\n|---|---|---|---|---|---|")
    for batch in given.batch:
        steps = {"MengTianjian/enas-pytorch": theirs(batch, given.peer), "ours": ours(batch)}
        walls, cpus = {name: [] for name in steps}, {name: [] for name in steps}
        for _ in range(given.repeats):  # in turn, so that a change of load meets both
            for name, step in steps.items():
                wall, cpu = time.perf_counter(), time.process_time()
                step()
                walls[name].append((time.perf_counter() - wall) / batch * 1e3)
                cpus[name].append((time.process_time() - cpu) / batch * 1e3)
        for name in steps:
            cells = [median(walls[name]), median(cpus[name]), min(walls[name]), min(cpus[name])]
            print(f"| {batch} | {name} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")


if __name__ == "__main__":
    main()
