"""Runs from Python: the same bits as the command, objects in the place of names, resumed, refused in one line."""

import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import pytest
import pytorch_lightning as pl
import torch
from commands import Commands
from hydra.version import getbase
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import lightning_nas as ln
from lightning_nas.cli.command import conf_dir
from lightning_nas.latency.table import LatencyTable
from lightning_nas.run import main
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import one_thread

FAST = {
    "latency_table": "macs",
    "callbacks": "none",
    "logger": "none",
    "trainer": {"max_epochs": 3, "limit_train_batches": 4, "limit_val_batches": 1},
    "retrain": {"epochs": 1},
}
OVERRIDES = [
    *("latency_table=macs", "callbacks=none", "logger=none", "retrain.epochs=1"),
    *(f"trainer.{key}={value}" for key, value in FAST["trainer"].items()),  # type: ignore[attr-defined]
]
LATE = {  # warms up for longer than it trains
    "epochs": 2,
    "scheduler": {
        "_target_": "lightning_nas.training.schedules.WarmupThenCosine",
        "_partial_": True,
        "T_max": 2,
        "warmup_epochs": 9,
        "warmup_lr": 0.1,
    },
}
NESTEROV = partial(torch.optim.SGD, lr=0.1, nesterov=True)
TIMES = {"search_seconds", "retrain_seconds", "latency_measured_ms", "latency_iqr_ms", "latency_steady"}


def digits() -> tuple[Any, Any]:
    x, y = load_digits(return_X_y=True)
    return (x.reshape(-1, 8, 8) * 15).astype("uint8"), y


class Module(pl.LightningDataModule):
    """An ordinary one."""

    def setup(self, stage: str) -> None:
        x, y = digits()
        self.set = TensorDataset(torch.from_numpy(x)[:, None].float() / 255, torch.from_numpy(y))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.set, batch_size=64, shuffle=True)


class StopAt(pl.Callback):
    """SIGTERM at the beginning of a batch, as a cluster sends it."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if module.position == self.batch:
            os.kill(os.getpid(), signal.SIGTERM)


def weights(folder: Path, stage: str = "") -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder / stage / "checkpoints" / "last.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def assert_equal_bits(one: Path, other: Path, stage: str = "") -> None:
    ours, theirs = weights(one, stage), weights(other, stage)
    assert ours.keys() == theirs.keys()
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []


def figures(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return {name: value for name, value in result.items() if name not in {*TIMES, "overrides"}}


def test_a_run_from_python_gives_the_bits_of_the_command(cli: Commands, tmp_path: Path) -> None:
    there, here = tmp_path / "command", tmp_path / "python"
    ended = cli.run("strategy=fbnet", "seed=3", f"hydra.run.dir={there}", *OVERRIDES)
    assert ended.code == 0, ended.err
    with one_thread():
        run = ln.Run(here, data="digits", space="fbnet_small", strategy="fbnet", seed=3, **FAST)
        run.search()
        run.retrain()
        assert run.report() == here / "report.html"
    for stage in ("", "retrain"):
        assert_equal_bits(there, here, stage)
    assert figures(there) == figures(here)
    assert run.result == json.loads((here / "result.json").read_text())
    assert (here / "config.yaml").exists()


def test_a_strategy_class_equals_its_preset(tmp_path: Path) -> None:
    for name, strategy in (("class", ln.FBNet), ("preset", "fbnet")):
        ln.Run(tmp_path / name, data=digits(), space="fbnet_small", strategy=strategy, **FAST).search()
    assert_equal_bits(tmp_path / "class", tmp_path / "preset")


def test_objects_in_the_place_of_names(tmp_path: Path) -> None:
    space = ln.FBNetSpace(input_shape=(1, 8, 8), num_classes=10)
    strategy = partial(ln.RandomWS, candidates=2, score_batches=1)
    run = ln.Run(tmp_path, data=Module(), space=space, strategy=strategy, **FAST)
    answer = run.search()
    assert answer == space.validate(answer) == run.answer
    assert run.result["dataset"] == "Module"
    assert run.result["strategy"] == "random_ws"
    network = run.retrain()
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_a_search_by_trials_trains_children_on_own_arrays(tmp_path: Path) -> None:
    space = ln.FBNetSpace(input_shape=(1, 8, 8), num_classes=10)
    trials = {
        **FAST,
        "trainer": {"limit_val_batches": 1},
        "engine": "serial",
        "child": {"epochs": 1, "limit_train_batches": 2},
    }
    run = ln.Run(tmp_path, data=digits(), space=space, strategy=partial(ln.RandomSearch, trials=3), **trials)
    answer = run.search()
    assert answer == space.validate(answer)
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) > 3


def test_a_stopped_run_resumes_to_the_bit(tmp_path: Path) -> None:
    def run(name: str, *callbacks: pl.Callback) -> ln.Run:
        settings = {**FAST, "callbacks": list(callbacks)}
        return ln.Run(tmp_path / name, data="digits", space="fbnet_small", strategy="fbnet", seed=5, **settings)

    handler = signal.getsignal(signal.SIGTERM)
    whole = run("whole")
    whole.search()
    with pytest.raises(SystemExit) as left:
        run("stopped", StopAt(5)).search()
    assert left.value.code == 143
    assert not (tmp_path / "stopped" / "architecture.json").exists()
    resumed = run("stopped").resume()
    assert resumed.answer == whole.answer
    assert_equal_bits(tmp_path / "whole", tmp_path / "stopped")
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strategy": "fbent"}, ["strategy", "'fbent'", "fbnet"]),
        ({"space": "fbnet_smal"}, ["search_space", "fbnet_small"]),
        ({"data": 3}, ["int", "LightningDataModule"]),
        ({"trainer": {"max_epoch": 3}}, ["trainer.max_epoch", "max_epochs"]),
        ({"retrain": {"epochs": 0}}, ["retrain.epochs", "0"]),
        ({"trainer": partial(pl.Trainer, max_epochs=2)}, ["strategy.arch_warmup_epochs=", "trainer.max_epochs=2"]),
        ({"retrain": LATE, "trainer": lambda **more: pl.Trainer(max_epochs=2, **more)}, ["scheduler.warmup_epochs=9"]),
        ({"trainer": partial(pl.Trainer, max_epochs=-1)}, ["trainer.max_epochs", "-1"]),
        ({"sed": 3}, ["sed", "seed"]),
        ({"strategy": ln.Digits}, ["strategy", "ln.FBNet"]),
        ({"strategy": "evolution", "trainer": {}, "callbacks": "default"}, ["callbacks", "shared weights"]),
    ],
)
def test_what_is_no_part_of_a_run_is_refused(arguments: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ln.NasError) as caught:
        ln.Run(tmp_path, **{"data": "digits", "space": "fbnet_small", "strategy": "fbnet", **FAST, **arguments})
    assert str(caught.value).isprintable()
    for word in words:
        assert word in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": 2, **FAST}, "target=2 MACs: the cheapest architecture of fbnet_small costs"),
        ({"target_params": 2, "latency_table": "none"}, "target_params=2 params: the cheapest"),
        ({"space": ToySpace(), "strategy": ln.DARTS, "target_macs": 2}, "the cheapest architecture of toy costs"),
        ({"target_ms": 2, **FAST}, "target_ms=2 needs latencies"),
        ({"target": 2, "latency_table": LatencyTable.params(ToySpace()), "space": ToySpace()}, "target=2 params: the"),
        ({"latency_table": "file"}, "latency_table.path=FILE"),
        ({"strategy": partial(ln.DARTS, weights_optimizer=NESTEROV), "space": "darts_small"}, "strategy.weights_optim"),
        ({"retrain": {"optimizer": {"momentum": 0, "nesterov": True}}, "stages": ["retrain"]}, "retrain.optimizer: it"),
        ({"strategy": "evolution", "engine": {"slots": 1000}}, "engine.slots=1000: this machine has"),
        ({"stages": ["retrain"], "architecture": "none.json"}, "architecture='none.json' is neither"),
        ({"threads": 1000}, "threads=1000: this machine has"),
        ({"trainer": {"accelerator": "gpu"}}, "legal here: auto, cpu"),
        ({"ckpt_path": "none.ckpt"}, "ckpt_path='none.ckpt' is no file"),
    ],
)
def test_settings_are_refused_before_data_are_read(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    sizes = {"image_size": 8, "channels": 1, "num_classes": 10}  # a path is missing, which reading the data would say
    with pytest.raises(ln.errors.InputError, match=words):
        ln.Run(tmp_path, data="npz", dataset=sizes, **settings)


def test_settings_are_refused_before_a_data_module_is_set_up(tmp_path: Path) -> None:
    class Slow(Module):
        def setup(self, stage: str) -> None:
            raise AssertionError("read")

    with pytest.raises(ln.errors.InputError, match="target=2 params: the cheapest architecture of toy costs"):
        ln.Run(tmp_path, data=Slow(), space=ToySpace(), latency_table="params", target=2, logger="none")


def test_a_trainer_that_is_made_is_refused_and_schedules_follow_a_partial(tmp_path: Path) -> None:
    own = {"data": "digits", "space": "fbnet_small", "strategy": "random_ws"} | FAST
    with pytest.raises(ln.NasError, match=r"every stage makes its own; legal: .*partial\(pl.Trainer"):
        ln.Run(tmp_path, **own | {"trainer": pl.Trainer(max_epochs=2, logger=False, enable_checkpointing=False)})
    for trainer, length in ((partial(pl.Trainer, max_epochs=7), 7), (lambda **more: pl.Trainer(**more), 60)):
        made = ln.Run(tmp_path, **own | {"trainer": trainer})
        assert made.record["strategy"]["weights_scheduler"]["T_max"] == length


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"space": ToySpace(), "search_space": {"x": 1}}, "search_space: space= is an object.*ToySpace.*'x'"),
        ({"search_space": "darts"}, "search_space: got 'darts'.*space= takes"),
        ({"data": digits(), "dataset": {"batch_size": 8}}, "dataset: data= is an object"),
    ],
)
def test_keys_of_a_part_that_is_an_object_are_refused(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ln.NasError, match=words):
        ln.Run(tmp_path, **arguments)


def test_keys_of_space_and_data_are_changed(tmp_path: Path) -> None:
    run = ln.Run(tmp_path, space="darts_small", search_space={"cells": 4}, dataset={"batch_size": 8}, logger="none")
    assert run.record["search_space"]["cells"] == 4
    assert run.data.batch_size == 8


def test_a_report_needs_an_answer(tmp_path: Path) -> None:
    run = ln.Run(tmp_path, data="digits", space="fbnet_small", strategy="fbnet", **FAST)
    with pytest.raises(ln.NasError, match=r"search\(\)"):
        run.report()


@pytest.mark.parametrize("how", ["folder", "module"])
def test_a_composed_configuration_runs_without_an_application(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["strategy=random_ws", "strategy.candidates=2", "search_space=fbnet_small", *OVERRIDES]
    context = (
        hydra.initialize_config_dir(conf_dir(), version_base="1.3")
        if how == "folder"
        else hydra.initialize_config_module("lightning_nas.conf", version_base="1.3")
    )
    with context:
        main(hydra.compose("config", overrides))
    [result] = tmp_path.glob("outputs/*/*/result.json")
    content = json.loads(result.read_text())
    assert (content["strategy"], content["dataset"]) == ("random_ws", "digits")
    assert (result.parent / "report.html").exists()


def test_a_run_is_made_inside_an_application_of_ones_own(tmp_path: Path) -> None:
    with hydra.initialize_config_dir(conf_dir(), version_base="1.2"):
        with pytest.raises(ln.NasError, match="strategy: there is no preset 'fbnett'; did you mean 'fbnet'"):
            ln.Run(tmp_path / "a", strategy="fbnett")
        run = ln.Run(tmp_path / "a", data="digits", space="fbnet_small", strategy="random_ws", **FAST)
        assert repr(run) == f"Run('{tmp_path}/a', data='digits', space='fbnet_small', strategy='random_ws', seed=0)"
        assert hydra.compose("config", ["strategy=darts"]).strategy._target_.endswith(".DARTS")  # it goes on as before
        assert str(getbase()) == "1.2"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("space", 7), ("retrain", 5), ("callbacks", 5), ("callbacks", [5]), ("logger", 5), ("latency_table", 5)),
        *(("engine", 5), ("trainer", 5), ("task", 5), ("child", []), ("export", []), ("paths", 3)),
    ],
)
def test_values_that_are_no_parts_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ln.NasError, match=rf"^{key}: got .*; legal: .*(preset|mapping)"):
        ln.Run(tmp_path, **{key: value})
