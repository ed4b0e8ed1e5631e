"""Files and settings that are found to be wrong when they are read, before any training."""

import fcntl
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from commands import TINY, Commands, Ended
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lightning_nas import zoo
from lightning_nas.cli.build import build
from lightning_nas.cli.command import conf_dir
from lightning_nas.errors import InputError
from lightning_nas.experiment.run import named_architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.processes import cores
from lightning_nas.spaces.chains.fbnet import FBNetSpace

IMAGES = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3), np.uint8)
LABELS = np.arange(80) % 4


def arrays(**changes: Any) -> dict[str, Any]:
    given = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:20], "y_test": LABELS[:20]} | changes
    return {name: value for name, value in given.items() if value is not None}


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        return hydra.compose("config", ["dataset=npz", "dataset.batch_size=8", "paths.output=''"])


@pytest.mark.parametrize(
    ("content", "changes", "words"),
    [
        (arrays(y_train=LABELS * 0, y_test=LABELS[:20] * 0), {}, ["class"]),
        (arrays(), {"search_space.in_channels": 1}, ["1x8x8", "3x8x8", "search_space.in_channels"]),
        (arrays(), {"dataset.channels": 1}, ["dataset.channels"]),
        (arrays(x_train=IMAGES[:0], y_train=LABELS[:0]), {}, ["x_train"]),
        (arrays(y_train=None), {}, ["lacks y_train"]),
        (arrays(y_train=LABELS[:-1]), {}, ["y_train"]),
        (arrays(y_train=LABELS - 1), {}, ["y_train"]),
        (arrays(x_train=IMAGES[:, :, :4]), {}, ["train images are (3, 8, 4)"]),
        (arrays(x_train=IMAGES / np.nan), {}, ["x_train"]),
        (arrays(x_train=IMAGES.astype(str)), {}, ["x_train"]),
        (arrays(), {"dataset.batch_size": 1000}, ["batch"]),
        (arrays(), {"dataset.num_classes": 3}, ["3"]),
        (arrays(), {"dataset.cutout": 9}, ["dataset.cutout=9", "the images are 8x8; legal: 0 to 8"]),
        (arrays(), {"dataset.crop_padding": 8}, ["dataset.crop_padding=8", "the images are 8x8; legal: 0 to 7"]),
        (arrays(), {"retrain.cutout": 9}, ["retrain.cutout=9: the images are 8x8; legal: 0 to 8"]),
    ],
)
def test_data_that_cannot_be_searched_on(
    tmp_path: Path, composed: DictConfig, content: dict[str, Any], changes: dict[str, Any], words: list[str]
) -> None:
    config, file = deepcopy(composed), tmp_path / "data.npz"
    np.savez(file, **content)
    for key, value in {"dataset.path": str(file), "paths.output": str(tmp_path), **changes}.items():
        OmegaConf.update(config, key, value)
    with pytest.raises(InputError) as caught:
        build(config).search()
    assert_one_line(caught.value, words)


def assert_one_line(error: InputError, words: list[str]) -> None:
    assert error.exit_code == 2
    assert str(error).isprintable()
    for word in words:
        assert word in str(error)


def test_data_files_that_are_none(cli: Commands) -> None:
    cli.run("dataset=npz").refused("dataset.path=FILE")
    np.savez(cli.folder / "whole.npz", **arrays())
    piece = cli.folder / "piece.npz"
    piece.write_bytes((cli.folder / "whole.npz").read_bytes()[:3000])
    cli.run("dataset=npz", f"dataset.path={piece}").refused("not a numpy .npz file")


TRIALS = ("strategy=evolution", "callbacks=trials")
SIZES = ("dataset.image_size=8", "dataset.channels=1", "dataset.num_classes=10")
ONE_CYCLE = "torch.optim.lr_scheduler.OneCycleLR"


def nesterov(prefix: str) -> list[str]:
    return [f"{prefix}optimizer.momentum=0", f"++{prefix}optimizer.nesterov=true"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([*TRIALS, "engine.slots=1000"], ["engine.slots=1000: this machine has"]),
        ([*TRIALS, "engine.threads=1000"], ["engine.threads=1000: this machine has"]),
        ([*TRIALS, "engine.gpus=900"], ["engine.gpus=900, engine.slots=null: this machine has"]),
        ([*TRIALS, "engine=ray", "engine.gpus=1.5"], ["engine.gpus=1.5: legal"]),
        ([*TRIALS, "engine=table", "engine.path=none.npz"], ["there is no file", "pass engine.path=FILE"]),
        (["latency_table=file", "latency_table.path=none.json"], ["none.json"]),
        (["stages=[retrain]"], ["needs architecture=FILE"]),
        (["target_ms=2", "latency_table=macs"], ["target_ms=2 needs latencies, and the latency table is in MACs"]),
        (["target=2", "latency_table=none"], ["target=2 needs costs"]),
        ([*SIZES, "latency_table=macs", "target=2"], ["target=2 MACs: the cheapest architecture of fbnet_small costs"]),
        ([*SIZES, "target_params=3"], ["target_params=3 params: the cheapest architecture of fbnet_small costs"]),
        ([*TRIALS, *SIZES, "target_macs=2"], ["target_macs=2 MACs: the cheapest"]),
        ([*SIZES, "search_space.stages=[[16,1,2],[16,1,2],[16,1,2],[16,1,2]]", "target_macs=1"], ["target_macs=1"]),
        (nesterov("strategy.weights_"), ["strategy.weights_optimizer: it cannot train: 'Nesterov"]),
        (
            ["~strategy.arch_optimizer.weight_decay", "strategy.arch_optimizer._target_=torch.optim.SparseAdam"],
            ["strategy.arch_optimizer: it cannot train"],
        ),
        (
            [
                *("~strategy.weights_scheduler.T_max", "+strategy.weights_scheduler.total_steps=3"),
                *("+strategy.weights_scheduler.max_lr=0.1", "strategy.weights_scheduler._target_=" + ONE_CYCLE),
            ],
            ["strategy.weights_scheduler: it fails within"],
        ),
        (
            ["strategy=nas_rl", "strategy.optimizer._target_=torch.optim.SparseAdam"],
            ["strategy.optimizer: it cannot train"],
        ),
        ([*TRIALS, "stages=[search]", *nesterov("child.")], ["child.optimizer: it cannot train"]),
        (nesterov("callbacks.rank_check.truth."), ["callbacks.rank_check.truth.optimizer: it cannot train"]),
        (["experiment=ranking_hypothesis", *nesterov("ranking.")], ["ranking.optimizer: it cannot train"]),
        (["stages=[retrain]", "architecture=none.json"], ["architecture='none.json' is neither"]),
        (["ckpt_path=none.ckpt"], ["ckpt_path='none.ckpt' is no file"]),
        (["retrain.average_after=2"], ["retrain.average_after=2 needs"]),
        ([*SIZES, "retrain.cutout=99"], ["retrain.cutout=99: the images are 8x8; legal: 0 to 8"]),
        ([*SIZES, "dataset.cutout=9"], ["dataset.cutout=9 on the command line): the images are 8x8; legal: 0 to 8"]),
        ([*SIZES, "dataset.crop_padding=8"], ["dataset.crop_padding=8", "the images are 8x8; legal: 0 to 7"]),
        (["dataset=image_folder", "dataset.image_size=8", "dataset.cutout=9"], ["the images are 8x8; legal: 0 to 8"]),
        (
            ["dataset=image_folder", "dataset.image_size=32", "dataset.crop_ratio=0.001"],
            ["dataset.crop_ratio=0.001", "scales images to 32,000 pixels", "legal: at least 0.00195"],
        ),
        (["retrain.optimizer.momentum=0", "retrain.optimizer.nesterov=true"], ["retrain.optimizer: it cannot train"]),
        pytest.param(
            ["latency_table=measured", "latency_table.device=cuda"],
            ["torch sees no GPU here"],
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_settings_are_refused_before_data_are_read(cli: Commands, overrides: list[str], words: list[str]) -> None:
    data = [] if any(override.startswith("dataset=") for override in overrides) else ["dataset=npz"]
    cli.run(*data, *overrides).refused(*words)  # a path is missing, which reading the data would say


def test_a_target_below_the_costs_of_a_file_is_refused_before_data_are_read(
    cli: Commands, composed: DictConfig
) -> None:
    config = deepcopy(composed)
    OmegaConf.update(config, "dataset", {"image_size": 8, "channels": 1, "num_classes": 10})
    LatencyTable.macs(instantiate(config.search_space)).save(cli.folder / "table.json")
    file = ("latency_table=file", f"latency_table.path={cli.folder}/table.json")
    cli.run("dataset=npz", *SIZES, *file, "target=2").refused("target=2 MACs: the cheapest architecture of fbnet_small")


def test_a_search_space_of_other_images(cli: Commands) -> None:
    cli.run("search_space=fbnet").refused("3x224x224", "1x8x8", "fbnet_small")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["dataset=text"], ["search_space.image_size", "text needs search_space=darts_rnn or darts_rnn_small"]),
        (["dataset=text", "strategy=gdas"], ["text needs search_space=darts_rnn or darts_rnn_small"]),
        (["dataset=text", "search_space=fbnet"], ["text in windows of 20", "darts_rnn_small (text)"]),
        (["search_space=darts_rnn_small", "dataset=digits"], ["search_space.bptt", "for text", "dataset=text"]),
        (["search_space=darts_rnn", "dataset=npz", "task=classification"], ["for text", "dataset=text"]),
        (
            ["strategy=mnasnet", "strategy.penalty.alpha=0.5"],
            ["penalty.alpha: got 0.5", "float >= -10 and <= 0"],
        ),
        (["strategy=mnasnet", "strategy.penalty.beta=-5000"], ["strategy.penalty.beta: got -5000"]),
        (["dataset.num_workers=1000"], [f"dataset.num_workers=1000: this machine has {cores()} cores; legal: at most"]),
        (["threads=1000"], [f"threads=1000: this machine has {cores()} cores; legal: at most"]),
        (["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1000"], ["trainer.devices=1000: this machine"]),
        (["strategy=p_darts", "+trainer.max_time=00:00:00:00"], ["trainer.max_time: got '00:00:00:00'", "no time"]),
        (["callbacks.rank_check.architectures=100000"], ["rank_check.architectures: got 100000", "2000"]),
        (["strategy.arch_optimizer.betas=[0.1,0.2]"], ["use +strategy.arch_optimizer.betas=[0.1,0.2]"]),
        (["strategy.arch_optimizer.betas=[7,8]"], ["betas: got [7, 8]; legal: list of 2"]),
        (["search_space=[0,1]"], ["cannot be composed", "the option of a group is a name or a list of names"]),
        (["+callbacks=[1]"], ["cannot be composed", "the option of a group is a name or a list of names"]),
    ],
)
def test_what_does_not_go_together_or_beyond_its_range_is_refused_at_once(
    cli: Commands, overrides: list[str], words: list[str]
) -> None:
    cli.run(*overrides).refused(*words)


def test_architectures_that_cannot_be_retrained(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    good = json.loads((undisturbed[0] / "architecture.json").read_text())
    (cli.folder / "damaged.json").write_text(json.dumps(good)[:-20])
    first = next(iter(good["choices"]))
    illegal = good | {"choices": good["choices"] | {first: "k9_e9"}}
    (cli.folder / "illegal.json").write_text(json.dumps(illegal))
    for architecture, words in {
        "null": ["stages=[retrain] needs architecture="],
        "nowhere.json": ["nowhere.json", "fbnet_c"],
        f"{cli.folder}": ["neither a file nor a zoo name"],
        f"{cli.folder}/damaged.json": ["damaged.json", "not valid JSON"],
        f"{cli.folder}/illegal.json": [first, "k9_e9", "k3_e1"],
        "fbnet_c": ["fbnet_small", "'fbnet'"],
    }.items():
        cli.run(*TINY, "latency_table=none", "stages=[retrain]", f"architecture={architecture}").refused(*words)


TABLES: dict[str, tuple[Callable[[str], str], list[str]]] = {
    "truncated": (lambda text: text[: len(text) // 2], ["not valid JSON"]),
    "empty": (lambda text: "", ["not valid JSON"]),
    "negative": (lambda text: text.replace('"median": ', '"median": -', 1), ["median", "greater than or equal to 0"]),
    "nan": (lambda text: text.replace('"iqr": 0.0', '"iqr": NaN', 1), ["NaN is not a number"]),
    "unit": (lambda text: text.replace('"MACs"', '"seconds"'), ["unit", "'ms'"]),
    "duplicate": (lambda text: text.replace('"unit"', '"unit": "ms",\n  "unit"', 1), ["unit", "twice"]),
    "space": (lambda text: text.replace('"fbnet_small"', '"fbnet"'), ["'fbnet'", "'fbnet_small'"]),
    "noise": (lambda text: "noise\n" * 1_800_000, ["bytes"]),
}


@pytest.mark.parametrize("what", TABLES)
def test_latency_tables_that_cannot_be_used(tmp_path: Path, undisturbed: tuple[Path, Ended], what: str) -> None:
    change, words = TABLES[what]
    text, file = (undisturbed[0] / "latency_table.json").read_text(), tmp_path / f"{what}.json"
    config = OmegaConf.load(undisturbed[0] / "config.yaml")
    space = instantiate(config.search_space)
    source = instantiate({"_target_": "lightning_nas.latency.sources.File", "path": str(file)})
    file.write_text(text)
    assert source(space).digest
    file.write_text(change(text))
    with pytest.raises(InputError) as caught:
        source(space)
    assert_one_line(caught.value, words)


def test_a_latency_table_without_one_of_the_operations(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    content = json.loads((undisturbed[0] / "latency_table.json").read_text())
    key, _ = content["entries"].popitem()
    (cli.folder / "table.json").write_text(json.dumps(content))
    cli.run(*TINY, "latency_table=file", f"latency_table.path={cli.folder}/table.json").refused("lacks 1", key[:40])


def test_no_latency_table_where_one_is_needed(cli: Commands) -> None:
    cli.run(*TINY, "latency_table=none").refused("needs a latency table", "latency_table=measured")
    cli.run(*TINY, "latency_table=file").refused("latency_table.path=FILE")
    cli.run(*TINY, "latency_table=file", "latency_table.path=nowhere.json").refused("nowhere.json", "No such file")


def test_checkpoints_that_cannot_be_resumed(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    folder = undisturbed[0]
    (cli.folder / "noise.ckpt").write_bytes(b"noise" * 1000)
    search, retraining = (folder / part / "checkpoints/last.ckpt" for part in (".", "retrain"))
    cli.run(*TINY, "ckpt_path=nowhere.ckpt").refused("ckpt_path='nowhere.ckpt'", "legal: last")
    cli.run(*TINY, f"ckpt_path={cli.folder}/noise.ckpt").refused("noise.ckpt", "damaged or not of this library")
    cli.run(*TINY, f"ckpt_path={retraining}", "resume.allow_inexact=true").refused("of another network")
    wider = "search_space.head=16"
    cli.run(*TINY, f"ckpt_path={search}", wider).refused("search_space.head was 8, is 16", "resume.allow_inexact=true")
    cli.run(*TINY, f"ckpt_path={search}", wider, "resume.allow_inexact=true").refused("of another network", "head")


def test_a_second_process_in_a_folder_is_told_of_the_first(cli: Commands) -> None:
    folder = cli.folder / "run"
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        lock.write("4711 on machine")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        cli.run(*TINY, f"hydra.run.dir={folder}").refused("in use by process", "4711 on machine")
    assert not (folder / "config.yaml").exists()


def test_a_zoo_name_is_an_architecture_of_its_space() -> None:
    assert FBNetSpace().validate(named_architecture("fbnet_c")) == zoo.load("fbnet_c")
