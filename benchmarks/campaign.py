"""A campaign over many networks: each has a process of its own, and a line in a file; what is there is left out."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def parser(about: str | None, names: Sequence[str], seconds: float) -> argparse.ArgumentParser:
    """The arguments of every campaign.

    Args:
        about: the text of the help.
        names: of the networks, where none are given.
        seconds: that a network has.
    """
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("names", nargs="*", default=names)
    made.add_argument("--seconds", type=float, default=seconds, help="of one network")
    made.add_argument("--out", type=Path)
    made.add_argument("--one", action="store_true", help="in this process")
    return made


def run(
    options: argparse.Namespace,
    names: Iterable[str],
    settings: Callable[[str], Sequence[str]],
    in_words: Callable[[Row], str],
    has_failed: Callable[[Row], bool] = lambda row: "error" in row,
) -> None:
    """Run this script on each name, print a line for each, and leave with 1 if one failed.

    Args:
        options: as read by :func:`parser`.
        names: of the networks.
        settings: arguments for one network.
        in_words: the line for a row: the name, the seconds, and what the process printed, or its error.
        has_failed: whether a row counts as a failure.
    """
    done = set[str]()
    if options.out and options.out.is_file():
        done = {json.loads(line)["name"] for line in options.out.read_text().splitlines()}
    failed = 0
    for name in names:
        if name in done:
            continue
        row = _in_a_process(name, settings(name), options.seconds)
        failed += has_failed(row)
        print(in_words(row), flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
    sys.exit(1 if failed else 0)


def _in_a_process(name: str, settings: Sequence[str], seconds: float) -> Row:
    command = [sys.executable, "-W", "ignore", sys.argv[0], name, "--one", *settings]
    began = time.perf_counter()
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        row = {"error": last} if ended.returncode else json.loads(ended.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        row = {"error": f"more than {seconds:.0f} s"}
    return {"name": name, "seconds": round(time.perf_counter() - began, 1), **row}
