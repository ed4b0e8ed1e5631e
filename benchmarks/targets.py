"""Whether searches keep a target: six targets, three seeds, seven strategies, on a toy chain with a synthetic table.

    python benchmarks/targets.py [--seeds 3]

Every layer has prices of its own in milliseconds, drawn from a seed. The six targets lie between the cheapest and the
dearest architecture. It fails if an answer costs more than its target, or less than 97 % of it although an architecture
of the space (all are listed) costs that much.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import Entry, LatencyTable
from lightning_nas.spaces.base import Keys, Operation
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.differentiable.base import DifferentiableSearch
from lightning_nas.strategies.differentiable.darts import DARTS
from lightning_nas.strategies.differentiable.fbnet import FBNet
from lightning_nas.strategies.differentiable.proxyless import ProxylessNAS
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.multi_trial.mnasnet import MnasNet
from lightning_nas.strategies.multi_trial.regularized_evolution import RegularizedEvolution
from lightning_nas.strategies.one_path.enas import ENAS
from lightning_nas.strategies.one_path.spos import SPOS
from lightning_nas.strategies.target import NEAR
from lightning_nas.testing.multi_trial import ToyEngine
from lightning_nas.testing.toys import OPERATIONS, ToyData, ToySpace
from lightning_nas.training.network import quiet_trainer

LAYERS, TARGETS, EPOCHS = 6, 6, 3
STRATEGIES: dict[str, Callable[..., SearchModule | TrialSearch]] = {
    "fbnet": partial(FBNet, arch_warmup_epochs=1, candidates=3),
    "darts": partial(DARTS, arch_warmup_epochs=1),
    "proxyless": partial(ProxylessNAS, arch_warmup_epochs=1, arch_every=1),
    "enas": partial(ENAS, arch_warmup_epochs=1, candidates=3),
    "spos": partial(SPOS, generations=2, population=3, parents=2),
    "mnasnet": partial(MnasNet, trials=12, children=2),
    "evolution": partial(RegularizedEvolution, trials=12, population=3, sample=2),
}


class PricedSpace(ToySpace):
    """The toy chain with a cost key for every option of every layer."""

    def operations(self) -> dict[str, Operation]:
        made = super().operations()
        priced = {f"{option} {name}": made[option] for option in OPERATIONS for name in self._names}
        return {"stem": made["stem"], "head": made["head"]} | priced

    @property
    def _names(self) -> list[str]:
        return [decision.name for decision in self.decisions]

    def cost_keys(self, architecture: Architecture) -> Keys:
        return ("stem", "head", *(f"{option} {name}" for name, option in architecture.choices))

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        rows = tuple(tuple((f"{option} {name}",) for option in OPERATIONS) for name in self._names)
        return ("stem", "head"), {"layers": rows}


def priced(space: PricedSpace) -> LatencyTable:
    """Prices from 0.05 to 0.75 ms; a layer that keeps the image is the dearest of its layer more often than not."""
    draw = torch.Generator().manual_seed(0)
    prices = {key: 0.05 + 0.5 * torch.rand((), generator=draw).item() for key in space.operations()}
    entries = {k: Entry(median=price + 0.2 * k.startswith("keep"), iqr=0.0) for k, price in prices.items()}
    return LatencyTable.macs(space).model_copy(update={"unit": "ms", "entries": entries})


def searched(
    name: str, space: PricedSpace, table: LatencyTable, target: float, seed: int
) -> SearchModule | TrialSearch:
    """The search after its end."""
    made = STRATEGIES[name]
    if issubclass(made.func, TrialSearch):  # type: ignore[attr-defined]
        module = made(space, table=table, target=target, seed=seed, engine=ToyEngine())
        quiet_trainer(1).fit(module)
    else:
        module = made(space, table=table, target=target, seed=seed)
        quiet_trainer(EPOCHS).fit(module, datamodule=ToyData(64, batch_size=16, val_fraction=0.25))
    return module


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each strategy; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args(arguments).seeds)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    space = PricedSpace(LAYERS)
    table = priced(space)
    every = itertools.product(OPERATIONS, repeat=LAYERS)
    costs = [space.cost(Architecture(space.name, tuple(zip(space._names, o, strict=True))), table) for o in every]
    low, high = min(costs), max(costs)
    targets = [low + (high - low) * (step + 1) / (TARGETS + 1) for step in range(TARGETS)]
    print(f"{len(costs)} architectures, {low:.3f} to {high:.3f} ms; targets", *(f"{t:.3f}" for t in targets))
    missed = 0
    for name in STRATEGIES:
        began, shares, gaps = time.perf_counter(), [], []
        for target, seed in itertools.product(targets, seeds):
            module = searched(name, space, table, target, seed)
            share = space.cost(module.answer(), table) / target
            near = any(NEAR * target <= cost <= target for cost in costs)
            missed += share > 1 or (near and share < NEAR)
            shares.append(share)
            if isinstance(module, DifferentiableSearch):
                gaps.append(abs(module.gaps[0]))
        mean = sum(shares) / len(shares)
        steered = f", derived before projection off by {100 * sum(gaps) / len(gaps):.1f} % (mean)" if gaps else ""
        print(
            f"{name:10} {len(shares)} answers: {min(shares):.4f} to {max(shares):.4f} of the target, mean {mean:.4f}"
            f"{steered}, {time.perf_counter() - began:.0f} s",
            flush=True,
        )
    print("every bar kept" if not missed else f"{missed} answers missed a bar")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
