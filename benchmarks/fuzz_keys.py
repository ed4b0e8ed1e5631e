"""Every key of every preset with hostile values, up to the first training step.

    python benchmarks/fuzz_keys.py --passes 4 --seed 0 [--first 0] [--folder FOLDER] [--seconds 20]

One pass sets each key of each preset (strategies, spaces, data sets, engines, callbacks, loggers, latency tables, ...)
to one value of ``tests/helpers/hostile.py``; the next pass takes other values. A case runs in a fork of this process
through the code of the real command: overrides are parsed, the configuration is checked, data are read, and strategy,
trainer and networks are made and rehearsed; nothing is trained. The conditions are those of ``benchmarks/fuzz.py``,
which runs the real command, for fewer keys. Every violation is printed with the overrides that repeat it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import hydra
import torch
from fuzz import Ended, Place, data_files, watched, written
from hostile import VALUES, keys
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

import lightning_nas.experiment.result  # noqa: F401 - forks find it imported
from lightning_nas.cli import presets
from lightning_nas.cli.build import build, parts_of
from lightning_nas.cli.command import conf_dir, run_command
from lightning_nas.cli.config.check import check
from lightning_nas.cli.names import with_folder
from lightning_nas.experiment.memory import training_memory
from lightning_nas.experiment.rehearsal import rehearse
from lightning_nas.experiment.retrain import check_retraining
from lightning_nas.experiment.search import build_strategy
from lightning_nas.experiment.trainer import built
from lightning_nas.run import own_data
from lightning_nas.strategies.sizes import check_sizes

COMMON = ("logger=none", "latency_table=macs", "callbacks=record", "threads=1")
WITH_CHILDREN = ("engine=serial", "callbacks=trials")
STRATEGIES = ("darts", "spos", "enas", "nas_rl", "nasnet", "pnas", "eas", "block_qnn", "mnasnet", "fbnet")
MORE = (
    *(("strategy=fbnet", f"logger={name}") for name in presets.names("logger")),
    *(("strategy=evolution", f"engine={name}") for name in ("local", "serial", "table", "ray")),
    *(("strategy=fbnet", f"latency_table={name}") for name in ("measured", "macs", "params", "none")),
    *(("strategy=fbnet", f"callbacks={name}") for name in ("default", "fast", "health", "record")),
    *(("strategy=evolution", f"callbacks={name}") for name in ("trials", "none")),
    ("strategy=fbnet", "trainer=ddp", "trainer.accelerator=cpu"),
    ("strategy=fbnet", "dataset=npz", "dataset.path=GIVEN/data.npz"),
    ("strategy=fbnet", "dataset=image_folder", "dataset.root=GIVEN/images"),
    ("strategy=darts", "search_space=darts_rnn_small", "dataset=text", "dataset.path=GIVEN/text.txt"),
    ("strategy=fbnet", "stages=[ranking]"),
    ("strategy=fbnet", "stages=[retrain]", "architecture=fbnet_a"),
)


def prepare(config: DictConfig) -> None:
    """What the command does before the first training step."""
    with_folder(config)
    own_data(config)
    check(config)
    run = build(config)
    if "retrain" in config.stages or not run.trains_nothing:
        check_sizes(run.space, run.data, run.task)
    if "search" in config.stages:
        module = build_strategy(run, run.table(run.space))
        trainer = built(run.trainer, logger=False, enable_progress_bar=False, default_root_dir=run.folder)
        rehearse(trainer, module, run.data, run.callbacks(), training_memory(run.trainer))
    if "retrain" in config.stages:
        check_retraining(run)


def forked(place: Place, overrides: list[str], seconds: float) -> Ended:
    """The command up to the first step, in a fork that ends when its time is over."""
    out, err = (place.folder / name for name in ("out.txt", "err.txt"))
    place.named += [out, err]
    sys.stdout.flush()
    child = os.fork()
    if not child:
        code = 99
        try:
            os.setsid()
            for number, file in ((1, out), (2, err)):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            cpu = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) + 3 * seconds)
            resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
            resource.setrlimit(resource.RLIMIT_AS, (24 * 2**30,) * 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**30,) * 2)
            os.environ.clear()
            os.environ.update(place.environment())
            os.chdir(place.folder / "work")
            sys.argv = ["run", *overrides]
            run_command(prepare, "config")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - as the interpreter does
            sys.excepthook(*sys.exc_info())
            code = 1
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)
    deadline, done = time.monotonic() + 12 * seconds, None
    while time.monotonic() < deadline and done is None:  # seen but not reaped, so that its number stays its own
        done = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status) if done is not None else None
    texts = [file.read_text(errors="replace") if file.exists() else "" for file in (out, err)]
    return Ended(code, *texts, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def runs(given: Path) -> Iterator[tuple[tuple[str, ...], DictConfig]]:
    """Overrides that select every preset at least once, each with its composed configuration."""
    spaces = [(f"search_space={name}",) for name in presets.names("search_space") if name != "from_model"]
    wanted: list[tuple[str, ...]] = [(f"strategy={name}",) for name in presets.names("strategy")]
    wanted += [(f"experiment={name}",) for name in presets.names("experiment")]
    for choice in (*wanted, *spaces, *MORE):
        own = [text.replace("GIVEN", str(given)) for text in choice]
        pairs = [[f"strategy={name}", *own] for name in STRATEGIES] if choice in spaces else [own]
        for pair in pairs:
            found = next(filter(None, (composed(pair, extra) for extra in ((), WITH_CHILDREN))), None)
            if found is not None:
                yield found
                break
        else:
            print(f"not composed: {shlex.join(own)}", flush=True)


def composed(pair: list[str], extra: tuple[str, ...]) -> tuple[tuple[str, ...], DictConfig] | None:
    """Overrides with those that make a run short, and what they give; None if such a run is refused."""
    groups = {override.partition("=")[0] for override in pair}
    common = {override.partition("=")[0]: override for override in (*COMMON, *extra)}
    taken = (*(override for group, override in common.items() if group not in groups), *pair)
    try:
        with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
            config = hydra.compose("config", [*taken, "paths.output=''"])
        check(config)
        parts_of(config).check()
    except Exception:  # noqa: BLE001 - the next is tried, or the caller says so
        return None
    return taken, config


def cases(given: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each key of each preset once, with overrides under which it is there."""
    seen = set[tuple[str, str]]()
    for overrides, config in runs(given):
        content: Any = OmegaConf.to_container(config)
        for key in keys(content):
            top, last = key.partition(".")[0], key.rpartition(".")[2]
            part = content.get(top)
            kind = str(part.get("_target_", "")) if isinstance(part, dict) else ""
            if not last.isdigit() and (kind, key) not in seen:
                seen.add((kind, key))
                yield overrides, key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "lightning_nas_fuzz_keys"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    folder = chosen.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    given = folder / "given"
    given.mkdir(parents=True)
    data_files(given)
    known, codes, found = list(cases(given)), dict[int | None, int](), 0
    print(f"{len(known)} keys, {len(VALUES)} values", flush=True)
    GlobalHydra.instance().clear()
    for overrides in dict.fromkeys(overrides for overrides, _ in known):
        place = Place(folder / "legal")
        ended = forked(place, [*overrides, f"hydra.run.dir={place.run}"], chosen.seconds)
        if ended.code:
            print(f"refused as it is: {shlex.join(overrides)}\n  {ended.err.strip()[-200:]}", flush=True)
        shutil.rmtree(place.folder)
    for number in range(chosen.first, chosen.passes * len(known)):
        overrides, key = known[number % len(known)]
        draw = Random(f"{chosen.seed}-{key}-{overrides}")
        value = draw.sample(VALUES, len(VALUES))[number // len(known) % len(VALUES)]
        sign = draw.choice(("", "", "++"))
        home = folder / f"case-{number}"
        shutil.rmtree(home, ignore_errors=True)
        place = Place(home)
        arguments = [*overrides, f"{sign}{key}={written(value)}", f"hydra.run.dir={place.run}"]
        ended, wrong = watched(place, partial(forked, place, arguments, chosen.seconds), chosen.seconds)
        codes[ended.code] = codes.get(ended.code, 0) + 1
        shutil.rmtree(home)
        if wrong:
            found += 1
            last = (ended.err.strip().splitlines() or [""])[-1][:300]
            print(f"case {number}: {'; '.join(wrong)}\n  {last}\n  {shlex.join(arguments)[:1500]}", flush=True)
        if number % 200 == 199:
            print(f"{number + 1} cases, {found} violations, exit codes {codes}", flush=True)
    print(json.dumps({"keys": len(known), "violations": found, "exit codes": {str(k): v for k, v in codes.items()}}))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
