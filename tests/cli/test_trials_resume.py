"""A search by trials that is stopped while its children train goes on to what it would have been."""

import json
import signal
from pathlib import Path
from typing import Any

from commands import Commands, session, when
from durable import not_in_the_guide

TRIALS = (
    *("strategy=random", "strategy.trials=6", "child.epochs=1", "child.limit_train_batches=2", "latency_table=macs"),
    *("stages=[search]", "logger=none", "engine.slots=2", "resume.save_every=2"),
)


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    path = folder / "trials.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def told(folder: Path) -> list[list[str]]:
    """``trials.csv`` without what a clock says."""
    header, *lines = [line.split(",") for line in (folder / "trials.csv").read_text().splitlines()]
    return [[cell for name, cell in zip(header, line, strict=True) if name != "seconds"] for line in lines]


def test_a_search_killed_while_children_train_ends_as_if_it_was_not(cli: Commands) -> None:
    whole, folder = cli.folder / "whole", cli.folder / "run"
    serial = [argument for argument in TRIALS if not argument.startswith("engine.")]
    reference = cli.fork(*serial, "engine=serial", f"hydra.run.dir={whole}")
    assert reference.wait().code == 0
    arguments = [*TRIALS, f"hydra.run.dir={folder}", "ckpt_path=last"]
    for signum, code, done in ((signal.SIGKILL, -signal.SIGKILL, 1), (signal.SIGTERM, 143, 3)):
        child = cli.fork(*arguments)
        child.when(lambda done=done: len(events(folder, "finished")) >= done)
        child.kill(signum)
        assert child.wait().code == code
        when(lambda pid=child.pid: not session(pid))  # no child is left alone
        finished = len(events(folder, "finished"))
        assert finished < 6, "it was too late to stop it"
        assert len(events(folder, "started")) > finished
    ended = cli.run(*serial, "engine=serial", f"hydra.run.dir={folder}", "ckpt_path=last")  # may move to another engine
    assert ended.code == 0, ended.err
    assert told(folder) == told(whole)
    assert not_in_the_guide(folder) == set()
    assert (folder / "architecture.json").read_text() == (whole / "architecture.json").read_text()
    other = cli.run(*TRIALS, "engine.threads=2", f"hydra.run.dir={folder}", "ckpt_path=last")
    other.refused("engine.threads was 1, is 2", "resume.allow_inexact=true")
    for kind in ("proposed", "finished"):
        assert sorted(event["trial"] for event in events(folder, kind)) == list(range(6))
    proposals = [
        {event["trial"]: event["architecture"] for event in events(place, "proposed")} for place in (folder, whole)
    ]
    assert proposals[0] == proposals[1]
