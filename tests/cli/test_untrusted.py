"""No file that a user is given runs code: each of these would make the folder ``canary``."""

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import TINY, Commands

from lightning_nas.training.checkpoint import AtomicCheckpointIO


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.canary),))


@pytest.fixture
def canary(cli: Commands) -> Path:
    return cli.folder / "canary"


def test_the_canary_sings(canary: Path) -> None:
    pickle.loads(pickle.dumps(Malicious(canary)))
    assert canary.is_dir()


def test_no_data_file_runs_code(cli: Commands, canary: Path) -> None:
    cli.environment["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    file = cli.folder / "file"
    evil = Malicious(canary)
    inside = {"state_dict": {}, "x": evil}

    def pickled() -> None:
        file.write_bytes(pickle.dumps(evil))

    def npz() -> None:
        with file.open("wb") as opened:
            np.savez(opened, x_train=np.array([evil], dtype=object), y_train=np.arange(1))

    ways = {
        "architecture": (pickled, [*TINY, "latency_table=none", "stages=[retrain]", f"architecture={file}"]),
        "table": (pickled, [*TINY, "latency_table=file", f"latency_table.path={file}"]),
        "npz": (npz, ["dataset=npz", f"dataset.path={file}"]),
        "pickle as npz": (pickled, ["dataset=npz", f"dataset.path={file}"]),
        "checkpoint": (lambda: torch.save(inside, file), [*TINY, f"ckpt_path={file}"]),
        "sealed checkpoint": (lambda: AtomicCheckpointIO().save_checkpoint(inside, file), [*TINY, f"ckpt_path={file}"]),
    }
    for way, (write, arguments) in ways.items():
        file.unlink(missing_ok=True)
        write()
        cli.run(*arguments).refused("file")
        assert not canary.exists(), way


def test_the_folder_of_a_run_is_not_trusted_either(cli: Commands, canary: Path) -> None:
    folder = cli.folder / "run"
    (folder / "checkpoints").mkdir(parents=True)
    AtomicCheckpointIO().save_checkpoint({"x": Malicious(canary)}, folder / "checkpoints/last.ckpt")
    cli.run(*TINY, f"hydra.run.dir={folder}", "ckpt_path=last").refused("no checkpoint in", "can be used")
    (folder / "checkpoints/last.ckpt").unlink()
    (folder / "latency_table.json").write_bytes(pickle.dumps(Malicious(canary)))
    cli.run(*TINY, f"hydra.run.dir={folder}", "ckpt_path=last").refused("not UTF-8")
    assert not canary.exists()


EVIL = "{{_target_: os.mkdir, path: {canary}}}"
GLOBAL = "# @package _global_\n"
OVERLAYS = {  # the group of the file, and what it says
    "os.system": ("strategy", "_target_: os.system\ncommand: mkdir {canary}"),
    "eval": ("strategy", '_target_: builtins.eval\n_args_: [\'__import__("os").mkdir("{canary}")\']'),
    "alias": ("strategy", "_target_: logging.os.system\ncommand: mkdir {canary}"),
    "sympy": ("dataset", '_target_: sympy.sympify\na: \'__import__("os").mkdir("{canary}")\''),
    "parser": ("task", '_target_: sympy.parsing.sympy_parser.parse_expr\ns: \'__import__("os").mkdir("{canary}")\''),
    "torch.load": ("task", "_target_: torch.load\nf: {pickle}\nweights_only: false"),
    "nested": ("callbacks", f"x: {{{{_target_: lightning_nas.callbacks.progress.SearchProgress, y: {EVIL}}}}}"),
    "network": (
        "search_space",
        f"_target_: lightning_nas.spaces.own.built.FromBuilder\nimage_size: 8\nmodel: {EVIL[:-2]}, _partial_: true}}}}",
    ),
    "tag": ("strategy", "alpha: !!python/object/apply:os.mkdir [{canary}]"),
    "trust": ("strategy", f"{GLOBAL}trusted_modules: [os]\nstrategy: {EVIL}"),
    "latency": (
        "latency_table",
        "_target_: lightning_nas.latency.sources.Measured\ndevice: command\ncommand: mkdir {canary} {{model}}",
    ),
    "hydra's callbacks": ("strategy", f"{GLOBAL}hydra:\n  callbacks:\n    x: {EVIL}"),
    "hydra's launcher": ("strategy", f"{GLOBAL}hydra:\n  launcher: {EVIL}"),
    "logging": (
        "strategy",
        f"{GLOBAL}hydra:\n  job_logging:\n    handlers:\n      x: {EVIL}".replace("_target_", "()"),
    ),
}


@pytest.mark.parametrize("way", OVERLAYS)
def test_no_configuration_file_runs_code(cli: Commands, canary: Path, way: str) -> None:
    group, text = OVERLAYS[way]
    (cli.folder / "theirs" / group).mkdir(parents=True)
    evil = cli.folder / "evil.pickle"
    evil.write_bytes(pickle.dumps(Malicious(canary)))
    (cli.folder / "theirs" / group / "evil.yaml").write_text(text.format(canary=canary, pickle=evil))
    ended = cli.run("--config-dir", f"{cli.folder}/theirs", f"{group}=evil")
    ended.refused()
    assert not canary.exists()


def test_only_the_command_line_can_trust_a_class(cli: Commands, canary: Path) -> None:
    text = f"class Task:\n    def __init__(self) -> None:\n        __import__('os').mkdir({str(canary)!r})\n"
    (cli.folder / "mine.py").write_text(text)
    arguments = ["task._target_=mine.Task", "~task.label_smoothing", "latency_table=none", "stages=[retrain]"]

    def with_mine() -> None:
        sys.path.insert(0, str(cli.folder))

    cli.run(*TINY, *arguments, before=with_mine).refused("'mine.Task' is refused", "trusted_modules=[mine]")
    assert not canary.exists()
    more = ["trusted_modules=[mine]", "architecture=nasbench201_resnet"]  # of another space
    cli.run(*TINY, *arguments, *more, before=with_mine).refused("nasbench201")
    assert canary.is_dir()
