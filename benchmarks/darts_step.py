"""One first-order step of DARTS' supernet: quark0/darts against both of our forms.

    python benchmarks/darts_step.py PATH_TO_PEER [--batch 16 --threads 1 --repeats 5 --channels 16 --cells 8]
    python benchmarks/darts_step.py PATH_TO_PEER --memory

PATH_TO_PEER is a checkout of https://github.com/quark0/darts. A step is an architecture step on one batch and a weights
step on another, with the optimisers and the clipping of the peer's ``train_search.py``. All contestants begin with the
same weights and architecture, and take turns in one process, so that a busy machine hurts all alike.

The peer runs as its training loop does: its own model and ``Architect``, whose step computes the gradients of all
weights too. Only ``.cuda()`` is replaced, by nothing.

With ``--memory`` each contestant takes two steps in a process of its own, which reports its peak resident memory, and
what that is above the same process before the first step.
"""

import argparse
import itertools
import resource
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from turns import Batch, Step, measure, print_machine, print_table

from lightning_nas.spaces.darts import DartsSpace
from lightning_nas.spaces.darts_networks import KINDS
from lightning_nas.spaces.gates import Gates

NAMES = ("quark0/darts", "ours, plain", "ours, fused")
SETTINGS = Namespace(momentum=0.9, weight_decay=3e-4, arch_learning_rate=3e-4, arch_weight_decay=1e-3)
LEARNING_RATE, CLIP, CLASSES = 0.025, 5.0, 10


def sgd(weights: list[nn.Parameter]) -> torch.optim.SGD:
    """The peer's."""
    return torch.optim.SGD(weights, lr=LEARNING_RATE, momentum=SETTINGS.momentum, weight_decay=SETTINGS.weight_decay)


def peer_steps(path: Path, channels: int, cells: int) -> dict[str, Step]:
    """The peer's model and architect, stepped as in its ``train``."""
    sys.path.insert(0, str(path / "cnn"))
    with mock.patch("torch.Tensor.cuda", lambda tensor: tensor):
        from architect import Architect
        from model_search import Network

        model = Network(channels, CLASSES, cells, nn.CrossEntropyLoss())
    for alphas in model.arch_parameters():
        alphas.data.zero_()
    architect, optimizer = Architect(model, SETTINGS), sgd(list(model.parameters()))

    def weights(batch: Batch) -> None:
        optimizer.zero_grad()
        model._loss(*batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()

    def architecture(batch: Batch) -> None:
        architect.step(None, None, *batch, LEARNING_RATE, optimizer, unrolled=False)

    return {"architecture": architecture, "weights": weights}


def our_steps(channels: int, cells: int, *, fused: bool) -> dict[str, Step]:
    """Our supernet; a weights step asks for weight gradients only, an architecture step for those of alpha only."""
    space = DartsSpace(channels=channels, cells=cells, num_classes=CLASSES, fused=fused)
    model = space.supernet()
    alpha = {kind: nn.Parameter(torch.zeros(space.gate_shapes[kind])) for kind in KINDS}
    weights = list(model.parameters())
    optimizer = sgd(weights)
    adam = torch.optim.Adam(
        alpha.values(), lr=SETTINGS.arch_learning_rate, betas=(0.5, 0.999), weight_decay=SETTINGS.arch_weight_decay
    )

    def loss(batch: Batch, *, train_weights: bool) -> Tensor:
        model.requires_grad_(train_weights)
        for parameter in alpha.values():
            parameter.requires_grad_(not train_weights)
        x, y = batch
        return F.cross_entropy(model(x, Gates.soft({kind: a.softmax(-1) for kind, a in alpha.items()})), y)

    def weights_step(batch: Batch) -> None:
        optimizer.zero_grad()
        loss(batch, train_weights=True).backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()

    def architecture_step(batch: Batch) -> None:
        adam.zero_grad()
        loss(batch, train_weights=False).backward()
        adam.step()

    return {"architecture": architecture_step, "weights": weights_step}


def contestant(name: str, options: Namespace) -> dict[str, Step]:
    """The steps of one."""
    torch.manual_seed(0)
    if name == NAMES[0]:
        return peer_steps(options.peer, options.channels, options.cells)
    return our_steps(options.channels, options.cells, fused=name == NAMES[2])


def batches(size: int) -> Callable[[], Batch]:
    """Random images, ever the same two batches in turn."""
    generator = torch.Generator().manual_seed(0)
    made = [
        (torch.randn(size, 3, 32, 32, generator=generator), torch.randint(CLASSES, (size,), generator=generator))
        for _ in range(2)
    ]
    return itertools.cycle(made).__next__


def peak() -> float:
    """MiB of the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report_memory(name: str, options: Namespace) -> None:
    """Of this process, for one contestant."""
    steps, draw = contestant(name, options), batches(options.batch)
    before = peak()
    for step in (*steps.values(), *steps.values()):
        step(draw())
    print(f"| {name} | {peak():.0f} | {peak() - before:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", type=Path, help="checkout of quark0/darts")
    for name, default in (("batch", 16), ("threads", 1), ("repeats", 5), ("channels", 16), ("cells", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--alone", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        return report_memory(options.alone, options)

    print_machine(options.peer)
    size = f"{options.channels} channels, {options.cells} cells, 32 px, batch {options.batch}"
    print(f"{options.threads} threads, {size}, {options.repeats} rounds\n", flush=True)
    if options.memory:
        print("| | peak MiB | above the start |\n|---|---|---|", flush=True)
        for name in NAMES:
            subprocess.run([sys.executable, *sys.argv, "--alone", name], check=True)
        return None
    contestants = {name: contestant(name, options) for name in NAMES}
    rows = measure(contestants, batches(options.batch), options.repeats)
    print("milliseconds\n")
    print_table(rows, ("architecture", "weights"))
    return None


if __name__ == "__main__":
    main()
