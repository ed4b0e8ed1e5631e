"""Do two trees of this project compute the same bits? Five searches with retraining, compared file by file.

    python benchmarks/same_bits.py OLD_TREE NEW_TREE --folder /tmp/same_bits

Each run's answer, tables (without durations) and the tensors of its two checkpoints must be equal. Costs are counted in
multiply-adds, so nothing depends on measured latencies.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

COMMON = ["seed=3", "latency_table=macs", "logger=none", "callbacks=record", "retrain.epochs=2"]
SHORT = ["trainer.max_epochs=4", "strategy.arch_warmup_epochs=1", "trainer.limit_train_batches=12"]
RUNS = {
    "fbnet": ["strategy=fbnet", *SHORT],
    "darts": ["strategy=darts", "strategy.order=second", *SHORT],
    "enas": ["strategy=enas", "strategy.weights_scheduler.T_0=4", *SHORT],
    "evolution": [
        "strategy=evolution",
        "strategy.trials=12",
        "strategy.population=4",
        "child.epochs=1",
        "callbacks=trials",
    ],
    "text": ["strategy=darts", "strategy.order=first", "search_space=darts_rnn_small", *SHORT],
}
TIMES = {
    *("seconds", "trial/seconds", "started", "ended", "worker", "time"),
    *("search_seconds", "retrain_seconds", "latency_measured_ms"),
}
FIGURES = ("strategy", "search_space", "dataset", "seed", "architecture", "test_acc", "test_ppl", "params", "macs")
TABLES = ("metrics.csv", "architectures.csv", "trials.csv", "population.csv", "retrain/metrics.csv")
CHECKPOINTS = ("checkpoints/last.ckpt", "retrain/checkpoints/last.ckpt")


def tensors(value: Any, key: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a nested value with its place."""
    if isinstance(value, torch.Tensor):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from tensors(item, f"{key}/{name}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from tensors(item, f"{key}/{number}")


def digests(folder: Path) -> dict[str, str]:
    """One digest for each thing that must not change."""
    found = {"architecture.json": json.loads((folder / "architecture.json").read_text())["choices"]}
    result = json.loads((folder / "result.json").read_text())
    found["result.json"] = {key: result[key] for key in FIGURES if key in result}
    for name in TABLES:
        if (folder / name).exists():
            with (folder / name).open() as file:
                found[name] = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
    texts = {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest() for name, value in found.items()
    }
    for name in CHECKPOINTS:
        content = torch.load(folder / name, weights_only=True, map_location="cpu")
        digest = hashlib.sha256()
        parts = {part: content[part] for part in ("state_dict", "optimizer_states") if part in content}
        for key, tensor in tensors(parts):
            digest.update(key.encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        texts[name] = digest.hexdigest()
    return texts


def run(tree: Path, folder: Path, overrides: list[str]) -> dict[str, str]:
    """The digests of one run of one tree; a folder with a result is not run again."""
    if not (folder / "result.json").exists():
        command = [sys.executable, "-m", "lightning_nas.run", *COMMON, *overrides, f"hydra.run.dir={folder}"]
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
    return digests(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("same_bits"))
    given = parser.parse_args()
    differ = 0
    for name, overrides in RUNS.items():
        old, new = (
            run(tree.resolve(), given.folder.resolve() / side / name, overrides)
            for side, tree in (("old", given.old), ("new", given.new))
        )
        for part in {**old, **new}:
            same = old.get(part) == new.get(part)
            differ += not same
            print(f"{name:10} {part:32} {'same' if same else 'DIFFERS'}")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
