"""One weights step of ENAS on its micro space: MengTianjian/enas-pytorch against this library.

    python benchmarks/enas_step.py PATH_TO_PEER [--batch 16 --filters 20 --threads 1 --repeats 20]

PATH_TO_PEER is a checkout of https://github.com/MengTianjian/enas-pytorch. Both have 6 + 2 cells of 5 nodes, no
auxiliary classifier, Nesterov momentum and the l2 of the authors' script; they take the same images and the same
architectures, drawn uniformly, one a step, in turns.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from turns import Batch, Step, measure, print_machine

from lightning_nas.architecture import Architecture
from lightning_nas.spaces.enas.micro import ENASMicroSpace
from lightning_nas.spaces.enas.operations import MICRO

NODES = range(2, 7)


def drawn(space: ENASMicroSpace) -> Iterator[Architecture]:
    """The same architectures for each contestant."""
    generator = torch.Generator().manual_seed(0)
    while True:
        yield space.sample(generator)


def step_of(network: nn.Module, forward: Callable[[Tensor], Tensor]) -> Step:
    """Loss, gradients, update."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)

    def step(batch: Batch) -> None:
        images, labels = batch
        optimizer.zero_grad()
        F.cross_entropy(forward(images), labels).backward()
        optimizer.step()

    return step


def ours(space: ENASMicroSpace) -> Step:
    """The supernet under one-path gates."""
    supernet, architectures = space.supernet(), drawn(space)
    return step_of(supernet, lambda images: supernet(images, space.gates(next(architectures))))


def theirs(space: ENASMicroSpace, path: Path, filters: int) -> Step:
    """The peer's model, which takes a list of input, operation, input, operation, ... for each kind of cell."""
    sys.path.insert(0, str(path))
    sizes = {"child_num_layers": 6, "child_out_filters": filters, "child_num_branches": 5, "child_num_cells": 5}
    model = importlib.import_module("micro_child").CNN(argparse.Namespace(**sizes, child_use_aux_heads=False))
    architectures = drawn(space)

    def arc(kind: str, architecture: Architecture) -> list[int]:
        places = [(node, slot) for node in NODES for slot in (1, 2)]
        return [
            number
            for node, slot in places
            for number in (
                int(architecture[f"{kind}_{node}_input_{slot}"].removeprefix("s")),
                MICRO.index(architecture[f"{kind}_{node}_op_{slot}"]),
            )
        ]

    def forward(images: Tensor) -> Tensor:
        architecture = next(architectures)
        logits, _ = model(images, (arc("normal", architecture), arc("reduce", architecture)))
        return logits

    return step_of(model, forward)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", type=Path)
    for name, default in (("batch", 16), ("filters", 20), ("threads", 1), ("repeats", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    space = ENASMicroSpace(channels=given.filters)
    steps = {"MengTianjian/enas-pytorch": theirs(space, given.peer, given.filters), "ours": ours(space)}
    generator = torch.Generator().manual_seed(0)

    def draw() -> Batch:
        labels = torch.randint(10, (given.batch,), generator=generator)
        return torch.randn(given.batch, 3, 32, 32, generator=generator), labels

    print_machine(given.peer)
    print(f"{given.threads} threads, batch {given.batch}, {given.filters} filters, {given.repeats} rounds\n")
    rows = measure({name: {"weights": step} for name, step in steps.items()}, draw, given.repeats)
    print("| | milliseconds | times faster | fastest | times faster |\n|---|---|---|---|---|")
    _, base, base_least = next(iter(rows.values()))
    for name, (_, both, least) in rows.items():
        print(f"| {name} | {both:.0f} | {base / both:.2f} | {least:.0f} | {base_least / least:.2f} |")


if __name__ == "__main__":
    main()
