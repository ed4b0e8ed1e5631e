"""Cost of engines: parallel efficiency with equal children of one thread, and children a second that do nothing.

python benchmarks/engines.py             # engine=local
python benchmarks/engines.py --ray       # engine=ray beside it
"""

import argparse
import json
import logging
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lightning_nas.architecture import Architecture
from lightning_nas.cli.job import ConfiguredJob
from lightning_nas.testing.toys import ToySpace
from lightning_nas.trials.book import Proposal, Trials
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.base import Engine, Job
from lightning_nas.trials.engines.local import LocalEngine
from lightning_nas.trials.ledger import Ledger
from lightning_nas.trials.requests import Request, Response

Make = Callable[..., Engine]


class Nothing(Child):
    """A child that is done at once."""

    def work(self, request: Request, *parts: Any) -> Response:
        return Response(request.trial, request.attempt, "finished", (0.5,))


def job(child: str, epochs: int) -> Job:
    """Children on the toy space; nothing is said of where they run."""
    optimizer = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}
    content = {
        "dataset": {"_target_": "lightning_nas.testing.toys.ToyData", "images": 8192},
        "search_space": {"_target_": "lightning_nas.testing.toys.ToySpace"},
        "task": {"_target_": "lightning_nas.tasks.classification.Classification"},
        "child": {"_target_": child, "epochs": epochs, "optimizer": optimizer},
        "seed": 0,
        "trusted_modules": ["lightning_nas.testing", "engines"],
    }
    return ConfiguredJob(content)


def timed(engine: Engine, architecture: Architecture, count: int, in_flight: int) -> tuple[float, list[float]]:
    """Wall seconds of so many trials, and the seconds each trained for."""
    with tempfile.TemporaryDirectory() as folder:
        book = Trials(engine, Ledger(Path(folder) / "trials.jsonl"), in_flight=in_flight, ordered=False, reuse=False)
        seconds, began = list[float](), time.monotonic()
        while len(seconds) < count:
            while book.wants and book.proposed < count:
                book.propose(Proposal(architecture))
            trial = book.next()
            assert trial is not None
            assert not trial.failed, trial.reason
            seconds.append(trial.seconds)
        wall = time.monotonic() - began
        book.ledger.close()
    return wall, seconds


def efficiency(make: Make, count: int, epochs: int, rounds: int) -> dict[str, Any]:
    """One slot and two, in turns after a child that warms up; throughput of two over twice that of one.

    Of each the fastest turn counts, as the least disturbed one.
    """
    best, turns = ToySpace().best, dict[int, list[tuple[float, list[float]]]]({1: [], 2: []})
    for _ in range(rounds):
        for slots, each in turns.items():
            engine = make(job("lightning_nas.trials.child.Child", epochs), slots=slots)
            timed(engine, best, slots, slots)
            each.append(timed(engine, best, count, slots))
            engine.close()
    (one, alone), (two, together) = (min(each) for each in turns.values())
    return {
        "one slot": one,
        "two slots": two,
        "child": statistics.mean(together),
        "efficiency": one / (2 * two),
        "busy": sum(together) / (2 * two),
        "trained": {1: alone, 2: together},
    }


def rate(make: Make, count: int) -> float:
    """Children a second that do nothing."""
    engine = make(job("engines.Nothing", 1), slots=2)
    timed(engine, ToySpace().best, 4, 2)
    wall, _ = timed(engine, ToySpace().best, count, 2)
    engine.close()
    return count / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ray", action="store_true", help="engine=ray too")
    parser.add_argument("--children", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2, help="of each child")
    parser.add_argument("--rounds", type=int, default=5, help="turns of one slot and of two")
    parser.add_argument("--json", type=Path, help="write the figures there, for scaling.py")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    makes: dict[str, Make] = {"local": LocalEngine}
    if given.ray:
        from lightning_nas.trials.engines.ray import RayEngine

        makes["ray"] = RayEngine
    print("| engine | a child trains | one slot | two slots | efficiency | slots train | doing nothing |")
    print("|---|---|---|---|---|---|---|")
    figures = {}
    for name, make in makes.items():
        found = efficiency(make, given.children, given.epochs, given.rounds)
        found["rate"] = rate(make, 4 * given.children)
        figures[name] = found | {"children": given.children}
        times = f"{found['child']:.2f} s | {found['one slot']:.1f} s | {found['two slots']:.1f} s"
        shares = f"{found['efficiency']:.3f} | {found['busy']:.0%}"
        print(f"| {name} | {times} | {shares} | {found['rate']:.1f} / s |", flush=True)
    print(f"\n{given.children} children; torch {torch.__version__}, Python {platform.python_version()}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
