"""Cost of one path: search steps of several methods as shares of a mixed step, on three spaces.

    python benchmarks/paths.py [--space darts nasbench201 proxyless] [--threads 1 --repeats 3]
    python benchmarks/paths.py --memory

A step is what a method does for its architecture on one batch and for its weights on another. All methods of a space
train the same supernet, in its fused form where that serves, and take turns step by step in one process, so that a busy
machine hurts all alike:

* mixed: all options run in both steps (DARTS of first order, FBNet);
* one path: the drawn option of each choice runs, gradients pass straight through (GDAS);
* one path, joint: the same, each batch training both (SNAS, hard);
* full, two paths, REINFORCE: ProxylessNAS, whose weights are trained one path a batch; REINFORCE scores 10 paths.

With ``--memory`` each method takes three steps in a process of its own, which reports its peak resident memory above
the same process before the first step. Paths differ in size; the medians and peaks are of those that were drawn.
"""

import argparse
import itertools
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from turns import Batch, Step, measure

from lightning_nas.functional.relaxation import gumbel_noise, gumbel_softmax, largest, straight_through
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.chains.proxyless import ProxylessNASSpace
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.strategies.differentiable.proxyless import ProxylessNAS

Space = Callable[[], WeightSharingSpace]
SPACES: dict[str, tuple[Space, int]] = {  # with the batch
    "darts": (DARTSSpace, 16),
    "nasbench201": (partial(NASBench201Space, affine=False), 16),
    "proxyless": (ProxylessNASSpace, 2),
}
METHODS = ("mixed", "one path", "one path, joint", "full", "two paths", "REINFORCE")
UPDATES = {"full": "full", "two paths": "two_path", "REINFORCE": "reinforce"}
SAMPLES = 10


class Methods:
    """The steps of all methods on one supernet."""

    def __init__(self, space: WeightSharingSpace) -> None:
        optimizers = {
            "weights_optimizer": partial(torch.optim.SGD, lr=0.025, momentum=0.9),
            "arch_optimizer": partial(torch.optim.Adam, lr=3e-4),
        }
        self.updates = {
            name: ProxylessNAS(space, update=update, penalty=None, weights_scheduler=None, **optimizers)
            for name, update in UPDATES.items()
        }
        search = self.updates["full"]
        self.supernet, self.theta = search.supernet, search.theta
        for other in self.updates.values():
            other.supernet, other.theta = self.supernet, self.theta
        self.weights, self.arch = list(self.supernet.parameters()), list(self.theta.values())
        self.sgd, self.adam = (make(p) for make, p in zip(optimizers.values(), (self.weights, self.arch), strict=True))
        self.generator = torch.Generator().manual_seed(0)

    def steps(self, method: str) -> dict[str, Step]:
        """One for the architecture and one for the weights."""
        if method == "one path, joint":
            return dict.fromkeys(("architecture", "weights"), partial(self._step, self._straight, True, True))
        weights = self._mixture if method == "mixed" else self._path
        arch = {"mixed": self._mixture, "one path": self._straight}.get(method) or partial(self._binary, method)
        first = self._scored if method == "REINFORCE" else partial(self._step, arch, False, True)
        return {"architecture": first, "weights": partial(self._step, weights, True, False)}

    def _step(self, gates: Callable[[], Gates], of_weights: bool, of_arch: bool, batch: Batch) -> None:
        self.supernet.requires_grad_(of_weights)
        for parameter in self.arch:
            parameter.requires_grad_(of_arch)
        moved = [self.sgd] * of_weights + [self.adam] * of_arch
        for optimizer in moved:
            optimizer.zero_grad()
        F.cross_entropy(self.supernet(batch[0], gates()), batch[1]).backward()
        if of_weights:
            nn.utils.clip_grad_norm_(self.weights, 5.0)
        for optimizer in moved:
            optimizer.step()

    @torch.no_grad()
    def _scored(self, batch: Batch) -> None:
        for _ in range(SAMPLES):
            self.updates["REINFORCE"].reward(batch, self._path())

    def _mixture(self) -> Gates:
        return Gates.soft({group: theta.softmax(-1) for group, theta in self.theta.items()})

    def _straight(self) -> Gates:
        soft = {g: gumbel_softmax(t, gumbel_noise(t.shape, self.generator), 1.0) for g, t in self.theta.items()}
        return Gates.drawn({group: straight_through(largest(rows), rows) for group, rows in soft.items()})

    def _path(self) -> Gates:
        return self.updates["full"].gates(self.generator)

    def _binary(self, method: str) -> Gates:
        return self.updates[method].binary_gates(self.generator)[0]


def batches(space: WeightSharingSpace, size: int) -> Callable[[], Batch]:
    """Random images, ever the same two batches in turn."""
    generator = torch.Generator().manual_seed(0)
    classes = space.num_classes
    made = [(space.example(size, generator), torch.randint(classes, (size,), generator=generator)) for _ in range(2)]
    return itertools.cycle(made).__next__


def peak() -> float:
    """MiB of the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report_memory(name: str, method: str) -> None:
    """Of this process, for one method."""
    make, size = SPACES[name]
    space = make()
    steps, draw, before = Methods(space).steps(method), batches(space, size), peak()
    for step in (*steps.values(),) * 3:
        step(draw())
    print(peak() - before)


def show_memory(name: str, threads: int) -> None:
    """Of every method, each in a process of its own."""
    base = None
    for method in METHODS:
        command = [sys.executable, __file__, "--space", name, "--alone", method, f"--threads={threads}"]
        above = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        base = base or above
        print(f"| {name} | {method} | {above:.0f} | {above / base:.2f} |", flush=True)


def show_times(name: str, repeats: int) -> None:
    """Of every method, in turns."""
    make, size = SPACES[name]
    space = make()
    methods = Methods(space)
    rows = measure({method: methods.steps(method) for method in METHODS}, batches(space, size), repeats)
    for method, (arch, weights, both, least) in rows.items():
        shares = f"{both / rows['mixed'][2]:.2f} | {least / rows['mixed'][3]:.2f}"
        print(f"| {name} | {method} | {arch:.0f} | {weights:.0f} | {both:.0f} | {shares} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--alone", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        return report_memory(options.space[0], options.alone)
    if options.memory:
        print("| space | method | MiB above the start | of mixed |\n|---|---|---|---|")
    else:
        columns = ("space", "method", "architecture", "weights", "both", "of mixed", "of mixed, fastest rounds")
        print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name in options.space:
        show_memory(name, options.threads) if options.memory else show_times(name, options.repeats)
    return None


if __name__ == "__main__":
    main()
