"""Cost of Lightning and the search loop over a bare PyTorch loop of the same step.

    python benchmarks/overhead.py                # fbnet_small at 32 px, batch 64
    python benchmarks/overhead.py --size 224     # the paper's space, batch 2

One step is FBNet's weights step and its theta step. Both loops make the same gates, take the same losses, step the same
optimisers and are fed the same ready batches; the run also seeds every batch, checks for NaN, logs to ``metrics.csv``
and writes checkpoints. The loops take turns step by step, so that other work on the machine hits both alike.
"""

import argparse
import logging
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from lightning_nas.data.loaders import Loader
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.strategies.differentiable.fbnet import FBNet
from lightning_nas.tasks.classification import Classification
from lightning_nas.training.checkpoint import AtomicCheckpointIO
from lightning_nas.training.exact import ExactCheckpoint
from lightning_nas.training.metrics import MetricsFile
from lightning_nas.training.seeding import seeded

STAGES = [(16, 1, 1), (24, 2, 2), (32, 2, 2), (64, 1, 1)]  # of conf/search_space/fbnet_small.yaml
EVERY, USUAL = 10, 50  # batches between two checkpoints: here, to have some to time, and in a run
Batch = dict[str, Any]


def build(size: int) -> FBNet:
    """FBNet's search, with both steps on every batch."""
    small: dict[str, Any] = {"num_classes": 10, "stem": (16, 1), "stages": STAGES, "head": 128}
    space = FBNetSpace("overhead", image_size=size, **({} if size >= 128 else small))
    with seeded(0, "supernet"):
        return FBNet(
            space,
            Classification(),
            Macs()(space),
            weights_scheduler=None,
            arch_warmup_epochs=0,
            alternate="batch",
            weights_optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-4),
            arch_optimizer=partial(torch.optim.Adam, lr=0.01, weight_decay=5e-4),
        )


class BareLoop:
    """The step in plain PyTorch."""

    def __init__(self, module: FBNet) -> None:
        self.module = module.train()
        weights, theta = module.weight_parameters(), module.arch_parameters()
        self.weights = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=1e-4), theta
        self.theta = torch.optim.Adam(theta, lr=0.01, weight_decay=5e-4), weights

    def step(self, batch: Batch) -> None:
        """The theta step, then the weights step."""
        self._half(*self.theta, self.module.arch_loss, batch["arch"])
        self._half(*self.weights, self.module.weights_loss, batch["weights"])
        self.module.position += 1

    def _half(
        self, optimizer: torch.optim.Optimizer, frozen: list[nn.Parameter], loss: Callable[..., Any], batch: Any
    ) -> None:
        for parameter in frozen:
            parameter.requires_grad_(False)
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
        for parameter in frozen:
            parameter.requires_grad_(True)


class Turns(pl.Callback):
    """Before each step of the run takes one of the bare loop, and keeps the time of both: (wall, CPU) seconds."""

    def __init__(self, loop: BareLoop) -> None:
        self.loop = loop
        self.bare: list[tuple[float, float]] = []
        self.run: list[tuple[float, float]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Batch, batch_idx: int) -> None:
        """The run's step before ends here, and its next begins after the bare one."""
        self._stop(batch_idx)
        start = _now()
        self.loop.step(batch)
        self.start = _now()
        self.bare.append(_between(start, self.start))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """The end of the last step."""
        self._stop(len(self.bare))

    def _stop(self, steps: int) -> None:
        if steps:
            self.run.append(_between(self.start, _now()))


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _between(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    return end[0] - start[0], end[1] - start[1]


def ready(space: FBNetSpace, batch_size: int, count: int) -> list[Batch]:
    """Random batches for both parts."""
    rng = torch.Generator().manual_seed(0)

    def one() -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(batch_size, *space.input_shape, generator=rng)
        return x, torch.randint(space.num_classes, (batch_size,), generator=rng)

    return [{"weights": one(), "arch": one()} for _ in range(count)]


def measure(size: int, batch_size: int, steps: int) -> Turns:
    """Both loops over ``steps`` batches, the run as ``conf/trainer/default.yaml`` has it."""
    module, turns = build(size), Turns(BareLoop(build(size)))
    batches = ready(module.space, batch_size, steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=[turns, ExactCheckpoint(Path(folder) / "checkpoints", every=EVERY)],
            plugins=[AtomicCheckpointIO()],
            logger=[MetricsFile(Path(folder) / "metrics.csv")],
            default_root_dir=folder,
            deterministic=True,
            log_every_n_steps=10,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, Loader(batches, lambda: module.position))
    return turns


def show(turns: Turns, title: str) -> None:
    """Medians over the steps; checkpoints apart, spread over the steps between two of a run."""
    saved = [step for step in range(EVERY, len(turns.run)) if step % EVERY == 0]
    first = 2  # steps that warm up
    plain = [time for step, time in enumerate(turns.run) if step >= first and step not in saved][:-1]
    bare, run = _medians(turns.bare[first:]), _medians(plain)
    checkpoint = [max(0.0, a - b) for a, b in zip(_medians([turns.run[step] for step in saved]), run, strict=True)]
    total = [step + save / USUAL for step, save in zip(run, checkpoint, strict=True)]
    table = Table("", "wall ms", "CPU ms", title=title)
    rows = {"bare step": bare, "step of a run": run, "a checkpoint": checkpoint, f"step, 1 / {USUAL} checkpoint": total}
    for name, row in rows.items():
        table.add_row(name, *(f"{seconds * 1e3:.2f}" for seconds in row))
    table.add_row("the last over the first", *(f"{a / b:.3f}" for a, b in zip(total, bare, strict=True)))
    Console().print(table)


def _medians(times: Iterable[tuple[float, float]]) -> list[float]:
    return [statistics.median(column) for column in zip(*times, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="of the images; from 128 on the paper's space")
    parser.add_argument("--batch", type=int, help="images a batch; 64, or 2 with the paper's space")
    parser.add_argument("--steps", type=int, default=102)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    batch = given.batch or (2 if given.size >= 128 else 64)
    turns = measure(given.size, batch, given.steps)
    show(turns, f"{given.size} px, batch {batch}, {given.steps} steps, {given.threads} thread(s)")
    print(f"torch {torch.__version__}, pytorch-lightning {pl.__version__}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
