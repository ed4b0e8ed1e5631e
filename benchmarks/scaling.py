"""A search by trials on 8, 64 and 512 workers: a discrete-event simulation of driver and workers.

    python benchmarks/engines.py --json figures.json     # two workers, measured
    python benchmarks/scaling.py --check figures.json    # the simulation against them, then the table

The driver is one server: it takes a result, writes it down (fsync), learns from it, proposes, and hands the proposal
to a worker, which takes a while to begin. Durations of children are log-normal. All of it is in seconds.
"""

import argparse
import heapq
import json
import math
import os
import random
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """Of a simulated search.

    Attributes:
        wall: seconds it takes.
        busy: share of the time that workers train.
        driver: share of the time that the driver works.
        staleness: results learned from between a proposal and its own, by trial.
    """

    wall: float
    busy: float
    driver: float
    staleness: list[int]


def simulate(
    duration: Callable[[int], float],
    *,
    trials: int,
    workers: int,
    in_flight: int,
    ordered: bool = False,
    service: float,
    start: float,
) -> Outcome:
    """Play a search.

    Args:
        duration: seconds that a trial trains for.
        trials: how many.
        workers: children at once.
        in_flight: proposals open at a time.
        ordered: results are learned from in the order of proposals.
        service: of the driver for a trial.
        start: until a child that was handed over trains.
    """
    events, waiting, done = list[tuple[float, int]](), deque[int](), set[int]()  # ends of children; what has no worker
    free, proposed, learned, now = workers, 0, 0, 0.0  # now: until then the driver is busy
    after, staleness, trained = dict[int, int](), list[int](), 0.0
    order = deque[int]()
    while learned < trials:
        while proposed < trials and len(after) < in_flight:
            after[proposed] = learned
            waiting.append(proposed)
            order.append(proposed)
            proposed += 1
            now += service
            while waiting and free:
                number = waiting.popleft()
                trained += (seconds := duration(number))
                heapq.heappush(events, (now + start + seconds, number))
                free -= 1
        end, number = heapq.heappop(events)
        now, free = max(now, end), free + 1
        done.add(number)
        while waiting and free:
            following = waiting.popleft()
            trained += (seconds := duration(following))
            heapq.heappush(events, (now + start + seconds, following))
            free -= 1
        ready = [number] if not ordered else []
        while ordered and order and order[0] in done:
            ready.append(order.popleft())
        for each in ready:
            staleness.append(learned - after.pop(each))
            learned += 1
    return Outcome(now, trained / (workers * now), trials * service / now, staleness)


def lognormal(mean: float, sigma: float, seed: int = 0) -> Callable[[int], float]:
    """Durations of a mean, each a function of its trial."""
    return lambda number: random.Random(f"{seed} {number}").lognormvariate(math.log(mean) - sigma**2 / 2, sigma)


def fsync_seconds(times: int = 50) -> float:
    """Of a line of a ledger on this disk: the median."""
    with tempfile.TemporaryFile(dir=Path.cwd()) as file:
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            file.write(b"x" * 500)
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def check(figures: Path) -> None:
    """Two workers: what was measured, and what the simulation makes of one worker's overhead."""
    for name, found in json.loads(figures.read_text()).items():
        one, two = found["trained"]["1"], found["trained"]["2"]
        start = found["one slot"] / found["children"] - statistics.mean(one)
        out = simulate(lambda i, two=two: two[i], trials=len(two), workers=2, in_flight=2, service=0.0, start=start)
        off = out.wall / found["two slots"] - 1
        walls = f"two workers {found['two slots']:.1f} s, simulated {out.wall:.1f} s ({off:+.1%})"
        print(f"{name}: start {start:.2f} s; {walls}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, help="figures of engines.py")
    parser.add_argument("--service", type=float, default=0.002, help="seconds of the driver for a trial, without fsync")
    parser.add_argument("--start", type=float, default=2.0, help="seconds until a child trains")
    parser.add_argument("--sigma", type=float, default=0.5, help="of the logarithm of durations")
    given = parser.parse_args()
    if given.check:
        check(given.check)
    fsync = fsync_seconds()
    service = given.service + 3 * fsync  # proposed and started, finished, and what a checkpoint adds
    print(f"fsync {1e3 * fsync:.2f} ms, driver {1e3 * service:.2f} ms a trial, start {given.start} s\n")
    print("| child | workers | order | trials / h | of ideal | workers busy | driver | staleness, mean | largest |")
    print("|---|---|---|---|---|---|---|---|---|")
    for mean in (10.0, 600.0):
        for workers in (8, 64, 512):
            for ordered, open_ in ((False, workers), (True, workers), (True, 2 * workers)):
                trials, how = 20 * workers, "as they end" if not ordered else f"of proposals, {open_} open"
                options = {"trials": trials, "workers": workers, "in_flight": open_, "ordered": ordered}
                out = simulate(lognormal(mean, given.sigma), service=service, start=given.start, **options)
                ideal = trials * mean / workers
                stale = f"{statistics.mean(out.staleness):.0f} | {max(out.staleness)}"
                shares = f"{ideal / out.wall:.2f} | {out.busy:.2f} | {out.driver:.3f}"
                print(f"| {mean:.0f} s | {workers} | {how} | {3600 * trials / out.wall:,.0f} | {shares} | {stale} |")


if __name__ == "__main__":
    main()
