"""One step of DARTS' supernet: quark0/darts against both of our forms.

    python benchmarks/darts_step.py PATH_TO_PEER [--batch 16 --threads 1 --repeats 5 --channels 16 --cells 8]
    python benchmarks/darts_step.py PATH_TO_PEER --order second|exact
    python benchmarks/darts_step.py PATH_TO_PEER --memory

PATH_TO_PEER is a checkout of https://github.com/quark0/darts. A step is an architecture step on one batch and a weights
step on another, with the optimisers and the clipping of the peer's ``train_search.py``. All contestants begin with the
same weights and architecture, and take turns in one process, so that a busy machine hurts all alike.

The peer runs as its training loop does: its own model and ``Architect``, whose step computes the gradients of all
weights too. Only ``.cuda()`` is replaced, by nothing. With ``--order second`` its architecture step is the unrolled
one; "exact" it has not, there its second order is the measure.

With ``--memory`` each contestant, of each order, takes two steps in a process of its own, which reports its peak
resident memory, what that is above the same process before the first step, and the milliseconds of the second step.
"""

import argparse
import itertools
import resource
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from turns import Batch, Step, measure, print_machine, print_table

from lightning_nas.functional.hypergradient import VirtualStep, unrolled_gradient
from lightning_nas.spaces.cells.genotype import KINDS
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.gates import Gates

ORDERS = ("first", "second", "exact")
NAMES = ("quark0/darts", "ours, plain", "ours, fused")
SETTINGS = Namespace(momentum=0.9, weight_decay=3e-4, arch_learning_rate=3e-4, arch_weight_decay=1e-3)
LEARNING_RATE, CLIP, CLASSES = 0.025, 5.0, 10


def sgd(weights: list[nn.Parameter]) -> torch.optim.SGD:
    """The peer's."""
    return torch.optim.SGD(weights, lr=LEARNING_RATE, momentum=SETTINGS.momentum, weight_decay=SETTINGS.weight_decay)


def peer_steps(options: Namespace) -> dict[str, Step]:
    """The peer's model and architect, stepped as in its ``train``."""
    sys.path.insert(0, str(options.peer / "cnn"))
    from architect import Architect
    from model_search import Network

    torch.Tensor.cuda = torch.nn.Module.cuda = lambda moved: moved  # type: ignore[assignment]
    model = Network(options.channels, CLASSES, options.cells, nn.CrossEntropyLoss())
    for alphas in model.arch_parameters():
        alphas.data.zero_()
    architect, optimizer = Architect(model, SETTINGS), sgd(list(model.parameters()))
    train, unrolled = batches(options.batch), options.order != "first"

    def weights(batch: Batch) -> None:
        optimizer.zero_grad()
        model._loss(*batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()

    def architecture(batch: Batch) -> None:
        architect.step(*train(), *batch, LEARNING_RATE, optimizer, unrolled=unrolled)

    return {"architecture": architecture, "weights": weights}


def our_steps(options: Namespace, *, fused: bool) -> dict[str, Step]:
    """Our supernet; a weights step asks for weight gradients only, an architecture step for those of alpha only."""
    space = DARTSSpace(channels=options.channels, cells=options.cells, num_classes=CLASSES, fused=fused)
    model, train = space.supernet(), batches(options.batch)
    alpha = {kind: nn.Parameter(torch.zeros(space.gate_shapes[kind])) for kind in KINDS}
    weights, arch = list(model.parameters()), list(alpha.values())
    optimizer = sgd(weights)
    adam = torch.optim.Adam(
        arch, lr=SETTINGS.arch_learning_rate, betas=(0.5, 0.999), weight_decay=SETTINGS.arch_weight_decay
    )

    def loss(batch: Batch) -> Tensor:
        x, y = batch
        return F.cross_entropy(model(x, Gates.soft({kind: a.softmax(-1) for kind, a in alpha.items()})), y)

    def require(*, of_weights: bool, of_arch: bool) -> None:
        model.requires_grad_(of_weights)
        for parameter in arch:
            parameter.requires_grad_(of_arch)

    def weights_step(batch: Batch) -> None:
        require(of_weights=True, of_arch=False)
        optimizer.zero_grad()
        loss(batch).backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()

    def first_order(batch: Batch) -> None:
        require(of_weights=False, of_arch=True)
        adam.zero_grad()
        loss(batch).backward()
        adam.step()

    def unrolled(batch: Batch) -> None:
        require(of_weights=True, of_arch=True)
        other, buffers = train(), [optimizer.state[weight].get("momentum_buffer") for weight in weights]
        step = VirtualStep(LEARNING_RATE, SETTINGS.momentum, SETTINGS.weight_decay, buffers)
        mixed = "exact" if options.order == "exact" else "difference"
        _, gradients = unrolled_gradient(lambda: loss(other), lambda: loss(batch), weights, arch, step, mixed=mixed)
        for parameter, gradient in zip(arch, gradients, strict=True):
            parameter.grad = gradient
        adam.step()

    return {"architecture": first_order if options.order == "first" else unrolled, "weights": weights_step}


def contestant(name: str, options: Namespace) -> dict[str, Step]:
    """The steps of one."""
    torch.manual_seed(0)
    return peer_steps(options) if name == NAMES[0] else our_steps(options, fused=name == NAMES[2])


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
    for _ in range(2):
        start = time.perf_counter()
        for step in steps.values():
            step(draw())
    taken = 1000 * (time.perf_counter() - start)
    print(f"| {name}, {options.order} | {peak():.0f} | {peak() - before:.0f} | {taken:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", type=Path, help="checkout of quark0/darts")
    for name, default in (("batch", 16), ("threads", 1), ("repeats", 5), ("channels", 16), ("cells", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--order", choices=ORDERS, default="first")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--alone", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        return report_memory(options.alone, options)

    print_machine(options.peer)
    size = f"{options.channels} channels, {options.cells} cells, 32 px, batch {options.batch}"
    print(f"{options.threads} threads, {size}, {options.repeats} rounds, {options.order} order\n", flush=True)
    if options.memory:
        print("| | peak MiB | above the start | milliseconds |\n|---|---|---|---|", flush=True)
        for order, name in itertools.product(ORDERS, NAMES):
            if (order, name) != ("exact", NAMES[0]):
                subprocess.run([sys.executable, *sys.argv, "--order", order, "--alone", name], check=True)
        return None
    contestants = {name: contestant(name, options) for name in NAMES}
    rows = measure(contestants, batches(options.batch), options.repeats)
    print("milliseconds\n")
    print_table(rows, ("architecture", "weights"))
    return None


if __name__ == "__main__":
    main()
