"""Parts of another installed package: found by entry points, legal without ``trusted_modules``, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, TINY, Commands, Ended

CODE = '''
"""A package that knows lightning_nas."""

import os

from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.strategies.one_path.random_ws import RandomWS
from lightning_nas.tasks.classification import Classification
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.truth.stand_alone import StandAlone


class Mine(RandomWS):
    """Random search of another package.

    Args:
        space: what can be built.
    """


class Space(FBNetSpace):
    """A chain of two layers."""

    def __init__(self, image_size: int = 8, in_channels: int = 1, num_classes: int = 10) -> None:
        sizes = {"image_size": image_size, "in_channels": in_channels, "num_classes": num_classes}
        super().__init__(**sizes, name="theirs", stem=(4, 2), stages=[(4, 1, 1), (8, 1, 2)], head=8)


class Unregistered:
    """Makes a folder when it is made."""

    def __init__(self) -> None:
        os.mkdir("canary")


class Task(Classification):
    """Classification of theirs."""


class Truth(StandAlone):
    """A truth of theirs."""


class Engine(SerialEngine):
    """An engine of theirs."""
'''
ENTRY_POINTS = """
[lightning_nas.strategies]
mine = other.parts:Mine
bare = other.parts:Mine

[lightning_nas.spaces]
theirs = other.parts:Space

[lightning_nas.tasks]
their_task = other.parts:Task

[lightning_nas.truths]
their_truth = other.parts:Truth

[lightning_nas.engines]
their_engine = other.parts:Engine

[lightning_nas.conf]
other = other.conf
"""
YAML = """\
# Random search of another package. With their rate.
_target_: other.parts.Mine
_partial_: true
candidates: 2
score_batches: 1
weights_optimizer:
  _target_: torch.optim.SGD
  _partial_: true
  lr: 0.05
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has put the package ``other``."""
    site, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source")
    conf = source / "other" / "conf"
    (conf / "strategy").mkdir(parents=True)
    (source / "other" / "__init__.py").touch()
    (source / "other" / "parts.py").write_text(CODE)
    (conf / "__init__.py").touch()
    (conf / "strategy" / "mine.yaml").write_text(YAML)
    (conf / "strategy" / "evil.yaml").write_text("# Evil.\n_target_: other.parts.Unregistered\n")
    (conf / "strategy" / "fbnet.yaml").write_text("_target_: other.parts.Mine\n")
    information = source / "other-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.2\n")
    (information / "WHEEL").write_text(
        "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    files = [file.relative_to(source) for file in source.rglob("*") if file.is_file()]
    (information / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, "other-1.2.dist-info/RECORD"]))
    wheel = source / "other-1.2-py3-none-any.whl"
    subprocess.run(
        [sys.executable, "-c", f"import shutil; shutil.make_archive({str(wheel)!r}, 'zip', {str(source)!r})"],
        check=True,
    )
    Path(f"{wheel}.zip").rename(wheel)
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=600)
    return site


def ran(cli: Commands, site: Path, *arguments: str, module: str = "lightning_nas") -> Ended:
    return cli.process(*arguments, module=module, PYTHONPATH=f"{ROOT}:{site}").wait()


def test_a_strategy_and_a_space_of_another_package_search(cli: Commands, site: Path) -> None:
    tiny = [text for text in TINY if not text.startswith(("search_space.", "strategy."))]
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=4", "retrain.epochs=1")
    ended = ran(
        cli, site, "run", "strategy=mine", "search_space=theirs", *tiny, *short, f"hydra.run.dir={cli.folder}/run"
    )
    assert ended.code == 0, ended.err[-2000:]
    result = json.loads((cli.folder / "run/result.json").read_text())
    assert (result["strategy"], result["search_space"]) == ("mine", "theirs")
    assert "lr: 0.05" in (cli.folder / "run/config.yaml").read_text()


def test_parts_without_a_yaml_compose(cli: Commands, site: Path) -> None:
    choices = ["strategy=bare", "search_space=theirs", "task=their_task", "engine=their_engine"]
    ended = ran(cli, site, "run", *choices, "rank_check.truth=their_truth", "--cfg", "job")
    assert ended.code == 0, ended.err
    for name in ("Mine\n  _partial_: true", "Engine\n  _partial_: true", "Task", "Truth"):
        assert f"_target_: other.parts.{name}" in ended.out
    assert "_target_: other.parts.Space\n  image_size: ${dataset.image_size}" in ended.out
    short = ran(cli, site, "run", "strategy=random", "engine=their_engine", "debug=fast", "--cfg", "job").out
    assert "\n  trials: 12\n" in short
    assert "callbacks.trial_logger.TrialLogger" in short
    assert "callbacks.rank_check" not in short


def test_only_the_registered_classes_are_legal(cli: Commands, site: Path) -> None:
    ran(cli, site, "run", "strategy=evil").refused("'other.parts.Unregistered' is refused")
    ran(cli, site, "run", "task._target_=other.parts.os.mkdir").refused("'other.parts.os.mkdir' is refused")
    assert not (cli.folder / "canary").exists()


def test_the_library_keeps_its_own_names(cli: Commands, site: Path) -> None:
    ended = ran(cli, site, "run", "strategy=fbnet", "--cfg", "job")
    assert "_target_: lightning_nas.strategies.differentiable.fbnet.FBNet" in ended.out


def row(name: str, text: str, listed: list[str]) -> str:
    """A line of a list, whose texts begin in one column, two places after the longest name."""
    return name.ljust(2 + max(len(line.split()[0]) for line in listed)) + text


def test_they_are_listed_and_explained(cli: Commands, site: Path) -> None:
    strategies, spaces = (ran(cli, site, "list", what).out.splitlines() for what in ("strategies", "spaces"))
    after = strategies.index(row("mine", "Random search of another package.", strategies)) + 1
    assert strategies[after].startswith("mnasnet ")
    assert row("theirs", "A chain of two layers.", spaces) in spaces
    text = ran(cli, site, "explain", "strategy=mine").out
    assert text.startswith("strategy=mine  (other.parts.Mine)")
    assert "theirs" in text.partition("search spaces that go with it")[2].partition("search spaces that do not")[0]
    assert "docs/methods" not in text


def test_registering_lets_python_compose_them(site: Path) -> None:
    code = (
        "import hydra; from lightning_nas.cli.search_path import register; register()\n"
        "with hydra.initialize_config_module('lightning_nas.conf', version_base='1.3'):\n"
        "    config = hydra.compose('config', ['strategy=mine', 'search_space=theirs', \"paths.output=''\"])\n"
        "print(config.strategy._target_, config.search_space.image_size)"
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{site}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=600)
    assert done.stdout == "other.parts.Mine 8\n", done.stderr
