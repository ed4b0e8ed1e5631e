"""Contestants that take turns step by step in one process, so that a busy machine hurts all alike."""

import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]
Step = Callable[[Batch], None]


def measure(
    contestants: Mapping[str, Mapping[str, Step]], draw: Callable[[], Batch], repeats: int
) -> dict[str, list[float]]:
    """Milliseconds after a warm-up round: medians of each step and of all, and the least of all, by contestant."""
    rounds: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for _ in range(repeats + 1):
        for name, steps in contestants.items():
            times = []
            for step in steps.values():
                batch, start = draw(), time.perf_counter()
                step(batch)
                times.append(1000 * (time.perf_counter() - start))
            rounds[name].append([*times, sum(times)])
    columns = {name: list(zip(*rows[1:], strict=True)) for name, rows in rounds.items()}
    return {name: [*map(statistics.median, times), min(times[-1])] for name, times in columns.items()}


def print_machine(peer: Path) -> None:
    """What was measured on, and the peer's commit."""
    command = ["git", "-C", str(peer), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    processor = names[0].partition(": ")[2] if names else platform.processor()
    print(f"peer commit {commit or 'unknown'}; torch {torch.__version__}; {processor}")


def print_table(rows: Mapping[str, list[float]], steps: tuple[str, str]) -> None:
    """Of :func:`measure`, for two steps; how many times faster than the first contestant."""
    print(f"| | {steps[0]} | {steps[1]} | both | times faster | fastest both | times faster |")
    print("|---|---|---|---|---|---|---|")
    *_, base, base_least = next(iter(rows.values()))
    for name, (first, second, both, least) in rows.items():
        ratios = f"{both:.0f} | {base / both:.2f} | {least:.0f} | {base_least / least:.2f}"
        print(f"| {name} | {first:.0f} | {second:.0f} | {ratios} |")
