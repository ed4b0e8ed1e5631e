"""The commands that a report offers."""

import ast
import shlex
from pathlib import Path

from lightning_nas.architecture import Architecture
from lightning_nas.report.parts import Block
from lightning_nas.report.steps import next_steps

HYDRA = (
    "hydra:\n  runtime:\n    choices:\n      strategy: darts\n      search_space: darts_small\n      dataset: digits\n"
)


def blocks(folder: Path) -> list[str]:
    section = next_steps(folder, {"seed": 3})
    return [part.text for part in section.parts if isinstance(part, Block)] if section else []


def write(folder: Path, overrides: str) -> None:
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(overrides)
    (folder / ".hydra" / "hydra.yaml").write_text(HYDRA)
    (folder / "checkpoints").mkdir()
    Architecture.of("toy", {"first": "x"}).save(folder / "architecture.json")


def test_commands_repeat_the_overrides_of_the_run(tmp_path: Path) -> None:
    write(tmp_path, "- strategy=darts\n- retrain.epochs=1\n- hydra.run.dir=old\n- 'dataset.root=''my data'''\n")
    retrain, resume, _ = map(shlex.split, blocks(tmp_path)[:2] + [""])
    given = ["lightning-nas", "run", "strategy=darts"]
    own = ["stages=[retrain]", "architecture=architecture.json", "retrain.epochs=100", "hydra.run.dir=retrained"]
    assert retrain == [*given, "dataset.root='my data'", *own]
    assert resume == [*given, "retrain.epochs=1", "dataset.root='my data'", "hydra.run.dir=.", "ckpt_path=last"]


def test_no_override_can_add_a_command_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "- x=$(touch evil); touch evil\n")
    for command in blocks(tmp_path)[:2]:
        assert "x=$(touch evil); touch evil" in shlex.split(command)


def test_the_python_lines_name_the_presets(tmp_path: Path) -> None:
    write(tmp_path, "[]\n")
    python = blocks(tmp_path)[-1]
    ast.parse(python)
    assert 'ln.Run("retrained", data="digits", space="darts_small", strategy="darts", seed=3)' in python


def test_a_run_from_python_has_no_shell_commands(tmp_path: Path) -> None:
    Architecture.of("toy", {"first": "x"}).save(tmp_path / "architecture.json")
    [python] = blocks(tmp_path)
    ast.parse(python)
    assert "run.retrain(architecture)" in python


def test_a_folder_without_an_answer_offers_nothing(tmp_path: Path) -> None:
    assert next_steps(tmp_path, {}) is None
