"""A fuzzing campaign through the real command: hostile settings and damaged files.

    python benchmarks/fuzz.py --cases 200 --seed 0 [--only settings|files] [--folder FOLDER] [--seconds 20]

Settings are drawn from the composed configuration itself: every key may get every hostile value of
``tests/helpers/hostile.py``. Files are those of a finished run (checkpoints, tables, records), data files and overlays,
with something wrong in them, each read by the command that reads it.

A case holds if the command ends with 0, 2, 3 or 4; if a failure is one line on stderr that begins with ``error:``, and
no traceback; within ``--seconds`` of processor time and 2 GB; and if nothing was written but the run's folder, the
cache, temporary files and what the case itself names, a canary and this project's own files least of all. Every
violation is printed with the command that repeats it, and its folder is kept. Cases depend on the seed and their number
alone: ``--first 57 --cases 1`` runs one of them again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from hostile import VALUES, damaged, keys, other_json  # noqa: E402 - found by the line above

MEMORY = 2 * 2**30
SHORT = ("debug=fast", "logger=none", "retrain.epochs=1", "threads=1", "latency_table=macs", "callbacks=record")
TRIALS = ("debug=trials", "callbacks=trials", "engine=serial")
RUNS = (
    ("strategy=fbnet", "search_space.stem=[4,2]", "search_space.stages=[[4,1,1],[8,1,2]]", "search_space.head=8"),
    ("strategy=darts", "strategy.order=second", "search_space.cells=2", "search_space.channels=4"),
    ("strategy=darts", "search_space=darts_rnn_small", "dataset=text"),
    ("strategy=proxyless", "search_space=proxyless_small"),
    ("strategy=spos", "search_space=spos_shufflenet_small"),
    ("strategy=enas",),
    ("strategy=mnasnet", "search_space=mnasnet_small", *TRIALS),
    ("strategy=evolution", *TRIALS),
    ("strategy=optuna", "search_space=nasbench201_small", *TRIALS),
)
FINISHED = ((*RUNS[0], "trainer.max_epochs=2"), (*RUNS[7], "strategy.trials=4", "strategy.population=2"))


@dataclass
class Place:
    """Folders of one case."""

    folder: Path
    named: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("work", "home", "tmp", "cache", "given"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "canary").write_text("alive")

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LIGHTNING_NAS_DATA") if name in os.environ}
        return kept | {
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "MPLCONFIGDIR": str(self.folder / "tmp"),
            "LIGHTNING_NAS_CACHE": str(self.folder / "cache"),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "WANDB_MODE": "offline",
            "A_TOKEN": "secret-of-the-environment",
        }

    def outside(self) -> dict[str, tuple[int, int]]:
        """Size and time of each file that the command may not touch."""
        free = (self.run, self.folder / "cache", self.folder / "tmp", *self.named)
        files = [*self.folder.rglob("*"), *(ROOT / "lightning_nas").rglob("*"), *(ROOT / "conf").rglob("*")]
        found = {}
        for file in files:
            if file.is_file() and not any(file.is_relative_to(place) for place in free) and file.suffix != ".pyc":
                known = file.stat()
                found[str(file)] = (known.st_size, known.st_mtime_ns)
        return found


@dataclass
class Ended:
    """How a command ended."""

    code: int | None
    out: str
    err: str
    seconds: float
    memory: int


def run(place: Place, arguments: list[str], seconds: float, module: str = "lightning_nas.run") -> Ended:
    """The command in its folder, in a session of its own that is ended when its time is over."""

    def limits() -> None:
        cpu = int(seconds * 3)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
        resource.setrlimit(resource.RLIMIT_AS, (24 * 2**30,) * 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**30,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    streams = [place.folder / "out.txt", place.folder / "err.txt"]
    place.named += [file for file in streams if file not in place.named]
    with streams[0].open("wb") as out, streams[1].open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=place.folder / "work",
            env=place.environment(),
            start_new_session=True,
            preexec_fn=limits,
        )
        deadline, done = time.monotonic() + 12 * seconds, None
        while time.monotonic() < deadline and done is None:  # seen but not reaped, so that its number stays its own
            done = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)  # what is left of its session
        _, status, usage = os.wait4(process.pid, 0)
        code = os.waitstatus_to_exitcode(status) if done is not None else None
        process.returncode = os.waitstatus_to_exitcode(status)
    texts = [file.read_text(errors="replace") for file in streams]
    return Ended(code, *texts, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def violations(ended: Ended, seconds: float) -> Iterator[str]:
    """What is wrong with the way a command ended."""
    if ended.code not in (0, 2, 3, 4):
        yield f"exit code {ended.code}"
    errors = [line for line in ended.err.splitlines() if line.startswith("error:")]
    if ended.code in (2, 3, 4) and len(errors) != 1:
        yield f"{len(errors)} lines begin with error:"
    if errors and not (errors[0].isprintable() and len(errors[0]) <= 820):
        yield "the error is not one printable line"
    if "Traceback" in ended.err or "Traceback" in ended.out:
        yield "traceback"
    if ended.seconds > seconds:
        yield f"{ended.seconds:.0f} s of processor time"
    if ended.memory > MEMORY:
        yield f"{ended.memory / 2**30:.1f} GB"
    if "secret-of-the-environment" in ended.out + ended.err:
        yield "printed a secret of the environment"


def watched(place: Place, command: Callable[[], Ended], seconds: float) -> tuple[Ended, list[str]]:
    """How a command ended and what is wrong with that, files included that it may not touch."""
    before = place.outside()
    ended = command()
    after = place.outside()
    touched = [f"touched {name}" for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return ended, [*violations(ended, seconds), *touched]


# -- settings -----------------------------------------------------------------------------------------------------


def written(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{written(name)}:{written(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    if value is None or isinstance(value, bool | int | float):
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if value.startswith("${") and value.endswith("}"):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def settings_case(place: Place, draw: Random, known: dict[int, list[str]]) -> list[str]:
    """A run with one or two keys set to something hostile."""
    number = draw.randrange(len(RUNS))
    if number not in known:
        shown = subprocess.run(
            [sys.executable, "-m", "lightning_nas.run", *SHORT, *RUNS[number], "--cfg", "job"],
            env=place.environment(),
            cwd=place.folder / "work",
            capture_output=True,
            text=True,
            check=True,
        )
        known[number] = [key for key in keys(yaml.safe_load(shown.stdout)) if not key.rpartition(".")[2].isdigit()]
    changes = []
    for _ in range(draw.choice((1, 1, 2))):
        key, value = draw.choice(known[number]), draw.choice((*VALUES, str(place.folder / "canary")))
        changes.append(f"{draw.choice(('', '', '++'))}{key}={written(value)}")
    place.named.append(place.folder / "work" / "outputs")
    return [*SHORT, *RUNS[number], *changes, f"hydra.run.dir={place.run}"]


# -- files --------------------------------------------------------------------------------------------------------


def finished(folder: Path, seconds: float, what: tuple[str, ...]) -> Path:
    """A finished run to take files from."""
    place = Place(folder)
    if not (place.run / "result.json").exists():
        ended = run(place, [*SHORT, *what, f"hydra.run.dir={place.run}"], 10 * seconds)
        if ended.code:
            raise SystemExit(f"the run whose files are damaged fails itself:\n{ended.err}")
    return place.run


def data_files(folder: Path) -> None:
    """Small data of every kind that a user may give."""
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 255, (60, 8, 8), dtype=np.uint8), np.arange(60) % 3
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (folder / "text.txt").write_text("the cat sat on the mat and the dog sat on the cat . " * 400)
    for label in "ab":
        (folder / "images" / "train" / label).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(x[i]).save(folder / "images" / "train" / label / f"{i}.png")
    (folder / "overlay").mkdir()
    (folder / "overlay" / "mine.yaml").write_text("defaults: [config]\nseed: 3\nretrain: {epochs: 1}\n")


def files_case(place: Place, draw: Random, sources: list[Path]) -> list[str]:
    """A command that reads a file with something wrong in it."""
    which = draw.randrange(len(sources))
    shutil.copytree(sources[which], place.run)
    given = place.folder / "given"
    data_files(given)
    answer, table = place.run / "architecture.json", place.run / "latency_table.json"
    short = [*SHORT, *FINISHED[which]]
    new = f"hydra.run.dir={place.run}/new"
    kinds = (".csv", ".json", ".ckpt", ".yaml", ".jsonl", ".index")
    records = sorted(file for file in place.run.rglob("*") if file.suffix in kinds)
    ways: list[tuple[Path, list[str]]] = [
        *((file, [*short, "ckpt_path=last", f"hydra.run.dir={place.run}"]) for file in records),
        (answer, [*short, "stages=[retrain]", f"architecture={answer}", f"hydra.run.dir={place.run}"]),
        (table, [*short, "latency_table=file", f"latency_table.path={table}", new]),
        (
            given / "data.npz",
            [*short, "dataset=npz", f"dataset.path={given}/data.npz", new],
        ),
        (
            given / "images" / "train" / "a" / "7.png",
            [*short, "dataset=image_folder", f"dataset.root={given}/images", new],
        ),
        (
            given / "text.txt",
            [*SHORT, *RUNS[2], f"dataset.path={given}/text.txt", new],
        ),
        (
            given / "overlay" / "mine.yaml",
            [f"--config-dir={given}/overlay", "--config-name=mine", *short, new],
        ),
    ]
    file, arguments = draw.choice([way for way in ways if way[0].exists()])
    content = file.read_bytes()
    if file.suffix == ".json" and draw.random() < 0.5:
        content = other_json(content.decode(), draw).encode()
    else:
        content = damaged(content, draw)
    file.write_bytes(content)
    return arguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("settings", "files"))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "lightning_nas_fuzz"))
    given = parser.parse_args()
    folder, known, found = given.folder.resolve(), dict[int, list[str]](), 0
    damaging = FINISHED if given.only != "settings" else ()
    sources = [finished(folder / f"whole-{n}", given.seconds, what) for n, what in enumerate(damaging)]
    makers: dict[str, Callable[[Place, Random], list[str]]] = {
        "settings": lambda place, draw: settings_case(place, draw, known),
        "files": lambda place, draw: files_case(place, draw, sources),
    }
    codes: dict[int | None, int] = {}
    for number in range(given.first, given.first + given.cases):
        draw = Random(f"{given.seed}-{number}")
        sort = given.only or draw.choice(tuple(makers))
        home = folder / f"case-{given.seed}-{number}"
        shutil.rmtree(home, ignore_errors=True)
        place = Place(home)
        arguments = makers[sort](place, draw)
        ended, wrong = watched(place, partial(run, place, arguments, given.seconds), given.seconds)
        codes[ended.code] = codes.get(ended.code, 0) + 1
        if not wrong:
            shutil.rmtree(home)
            continue
        found += 1
        last = (ended.err.strip().splitlines() or [""])[-1][:200]
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in place.environment().items())
        print(f"case {number} ({sort}): {'; '.join(wrong)}\n  {last}\n  in {home}/work: env {variables} "
              f"{sys.executable} -m lightning_nas.run {shlex.join(arguments)}", flush=True)  # fmt: skip
    print(json.dumps({"cases": given.cases, "violations": found, "exit codes": {str(k): v for k, v in codes.items()}}))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
