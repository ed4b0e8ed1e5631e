"""The default command, shortened: what it writes, what a person sees, what W&B was told."""

import csv
import html.parser
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import TINY, Commands, Ended
from durable import not_in_the_guide

from lightning_nas.architecture import Architecture
from lightning_nas.experiment.result import KEYS
from lightning_nas.functional.ranking import TOO_FEW

FILES = (
    *("config.yaml", "architecture.json", "architectures.csv", "metrics.csv", "rank.csv", "result.json", "report.html"),
    *("checkpoints/last.ckpt", "retrain/checkpoints/last.ckpt", "retrain/metrics.csv"),
)
DOCUMENTED = [
    *("strategy", "search_space", "dataset", "seed", "architecture", "test_acc", "params", "macs"),
    *("latency_predicted_ms", "latency_measured_ms", "kendall_tau", "search_seconds", "retrain_seconds"),
    *("test_samples", "latency_device", "kendall_tau_macs", "latency_iqr_ms", "latency_steady"),
    *("latency_predicted_device", "latency_table_check", "steps", "warnings", "answer_rule"),
    *("balanced_acc", "majority_share", "baseline_acc", "classes", "confusion", "augmentation"),
    *("accuracy_source", "tabulated_acc", "tabulated_by", "targets", "overrides", "inherited_acc"),
    *("kendall_tau_interval", "kendall_tau_architectures", "kendall_tau_chance", "ranking"),
    *("score_spread", "score_error", "kendall_tau_truth", "rank_proxies"),
    *("retrain_epochs", "retrain_best_epoch", "retrain_lr"),
]
RANKING = DOCUMENTED[-11:-4]
UNASKED = ("rank_proxies", "retrain_best_epoch", "retrain_lr")
TABULATED = ("accuracy_source", "tabulated_acc", "tabulated_by", "targets", "inherited_acc")  # of some searches alone


OWN_DATA = """
import pytorch_lightning as pl, torch
from torch.utils.data import DataLoader, TensorDataset

class Squares(pl.LightningDataModule):
    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def _loader(self, count):
        labels = torch.arange(count) % 4
        images = torch.rand(count, 1, 8, 8) + labels[:, None, None, None]
        return DataLoader(TensorDataset(images, labels), batch_size=16)

    def train_dataloader(self):
        return self._loader(self.count)

    def val_dataloader(self):
        return self._loader(self.count // 4)

    def test_dataloader(self):
        return self._loader(self.count // 4)
"""


@pytest.fixture(scope="module")
def shortened(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, Ended]:
    """``python -m lightning_nas.run debug=fast``, in a process of its own, where there is a CUDA compiler."""
    commands = Commands(tmp_path_factory.mktemp("shortened"), cache)
    settings = ["trainer.log_every_n_steps=1", "strategy.arch_warmup_epochs=0", "strategy.alternate=batch"]
    settings += ["callbacks.rank_check.architectures=5"]  # the rank of three may not be defined
    compiler = {"CUDA_HOME": str(commands.folder)}  # torch warns of one without a GPU
    run = commands.process("debug=fast", *settings, f"hydra.run.dir={commands.folder / 'run'}", **compiler)
    ended = run.wait()
    assert ended.code == 0, ended.err
    return commands.folder / "run", ended


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


def test_the_folder_holds_what_others_rely_on(shortened: tuple[Path, Ended]) -> None:
    folder, _ = shortened
    assert [name for name in FILES if not (folder / name).is_file()] == []
    html.parser.HTMLParser().feed((folder / "report.html").read_text())
    assert not list(folder.rglob("*.tmp"))
    assert not_in_the_guide(folder) == set()


def test_the_result_has_the_documented_keys_and_every_figure(shortened: tuple[Path, Ended]) -> None:
    content = result(shortened[0])
    assert list(content) == DOCUMENTED == list(KEYS)
    missing = [name for name, value in content.items() if value is None]
    # tau is not defined where all of the few scores are equal
    usual = [*TABULATED, "kendall_tau_truth", *UNASKED]  # the shortest rank check takes its truth once
    assert missing in (
        usual,
        ["kendall_tau", "kendall_tau_macs", *TABULATED, *RANKING, *UNASKED],
    )
    assert (content["strategy"], content["search_space"], content["dataset"]) == ("fbnet", "fbnet_small", "digits")
    assert 0 <= content["test_acc"] <= 1
    assert content["architecture"] == Architecture.load(shortened[0] / "architecture.json").to_dict()


def test_a_person_sees_the_summary_and_no_chatter(shortened: tuple[Path, Ended]) -> None:
    folder, ended = shortened
    content = result(folder)
    assert ended.err.strip() == ""
    for words in (
        "parts of the data: weights",
        r"loss \d",
        r"val acc \d",
        r"tau -?\d",
        "search 1/2 · epoch",
        "retrain 2/2 · epoch",
    ):
        assert re.search(words, ended.out), words
    told = re.sub(r" *│\n│ *│ *", "", ended.out)  # long cells fill several lines
    for row in ("architecture", "test accuracy", "parameters", "MACs", "ms measured, IQR", "report.html"):
        assert row in told
    check = json.loads((folder / "latency_table.json").read_text())["steadiness"]
    assert check["rounds"] >= 9
    steady = content["latency_table_check"].startswith("steady: ")
    assert any("the latency table is not steady" in warning for warning in content["warnings"]) == (not steady)
    assert ("the latency table is not steady" in ended.out) == (not steady)
    assert ("Kendall" in told) == (content["ranking"] not in (None, TOO_FEW))  # undefined where all scores are equal
    for chatter in ("GPU available", "litlogger", "`Trainer", "weights_only", "LeafSpec", "wandb", "Warning"):
        assert chatter not in ended.out


def test_what_lightning_says_is_in_the_log(shortened: tuple[Path, Ended]) -> None:
    assert "`Trainer.fit` stopped" in (shortened[0] / "lightning_nas.log").read_text()


# -- W&B --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def records(shortened: tuple[Path, Ended]) -> list[dict[str, Any]]:
    """Of the one offline run, read back by W&B itself."""
    return read_back(shortened[0])


def read_back(folder: Path) -> list[dict[str, Any]]:
    [run] = (folder / "wandb").glob("offline-run-*")
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(run)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in told.splitlines()]


def history(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record["history"]["item"] for record in records if record["type"] == "history"]


def test_wandb_was_told_what_the_csv_file_was_told(
    shortened: tuple[Path, Ended], records: list[dict[str, Any]]
) -> None:
    with (shortened[0] / "metrics.csv").open() as file:
        written = list(csv.DictReader(file))
    for key in ("train/loss", "arch/loss", "arch/entropy", "latency/expected_ms", "val/acc", "rank/kendall_tau"):
        mirrored = [(item["trainer/global_step"], item[key]) for item in history(records) if key in item]
        assert mirrored == [(int(row["step"]), float(row[key])) for row in written if row.get(key)], key
        assert mirrored, key
    steps = [item["trainer/global_step"] for item in history(records) if "train/loss" in item]
    assert steps == list(range(6)), "the axis counts batches, although each has two optimiser steps"


def test_wandb_has_the_configuration_the_architectures_and_the_heat_map(
    shortened: tuple[Path, Ended], records: list[dict[str, Any]]
) -> None:
    [started] = [record["run"] for record in records if record["type"] == "run"]
    config = started["config"]["update"]
    for group in ("strategy", "search_space", "dataset", "latency_table", "trainer", "retrain", "task"):
        assert isinstance(config[group], dict), group
    assert config["strategy"]["weights_optimizer"]["_target_"] == "torch.optim.SGD"
    logged = {key for item in history(records) for key in item}
    assert {"architectures._type", "arch/probabilities._type", "rank/scatter._type"} <= logged
    [media] = shortened[0].glob("wandb/offline-run-*/files/media")
    assert list(media.glob("images/arch/*.png"))
    [table] = media.glob("table/architectures_*.json")
    with (shortened[0] / "architectures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row[3] for row in json.loads(table.read_text())["data"]] == [row["key"] for row in rows]


def test_wandb_has_the_trained_network(records: list[dict[str, Any]]) -> None:
    artifacts = [record["artifact"] for record in records if record["type"] == "artifact"]
    [artifact] = [artifact for artifact in artifacts if artifact["type"] == "model"]
    assert [entry["path"] for entry in artifact["manifest"]["contents"]] == ["network.pt"]


def test_wandb_knows_how_it_ended(records: list[dict[str, Any]], cli: Commands) -> None:
    [ended] = [record["exit"] for record in records if record["type"] == "exit"]
    assert not ended.get("exit_code")
    folder = cli.folder / "run"
    cli.run(*TINY, "logger=wandb", "strategy.weights_optimizer.weight_decay=1e12", f"hydra.run.dir={folder}").refused(
        code=3
    )
    [ended] = [record["exit"] for record in read_back(folder) if record["type"] == "exit"]
    assert ended["exit_code"] == 1


# -- stages and loggers -----------------------------------------------------------------------------------------------


def test_searching_and_retraining_can_be_two_commands(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    searched, retrained = cli.folder / "searched", cli.folder / "retrained"
    assert cli.run(*TINY, "stages=[search]", f"hydra.run.dir={searched}").code == 0
    content = result(searched)
    assert [name for name in KEYS if content[name] is None] == [
        *("test_acc", "latency_predicted_ms", "retrain_seconds", "test_samples"),
        *("latency_predicted_device", "latency_table_check"),
        *("balanced_acc", "majority_share", "baseline_acc", "classes", "confusion", *TABULATED, "rank_proxies"),
        *("retrain_epochs", "retrain_best_epoch", "retrain_lr"),
    ]
    assert not (searched / "retrain").exists()
    found = searched / "architecture.json"
    assert found.read_text() == (undisturbed[0] / "architecture.json").read_text()

    assert cli.run(*TINY, "stages=[retrain]", f"architecture={found}", f"hydra.run.dir={retrained}").code == 0
    content, whole = result(retrained), result(undisturbed[0])
    missing = ["strategy", "latency_predicted_ms", "kendall_tau", "search_seconds", "kendall_tau_macs"]
    missing += ["latency_predicted_device", "latency_table_check"]  # the table counts multiply-adds
    missing += ["steps", "answer_rule", *TABULATED, *RANKING, *UNASKED]
    assert [name for name in KEYS if content[name] is None] == missing
    for name in ("architecture", "test_acc", "params", "macs"):
        assert content[name] == whole[name], name
    assert (retrained / "architecture.json").read_text() == found.read_text()
    assert (retrained / "retrain/metrics.csv").read_text() == (undisturbed[0] / "retrain/metrics.csv").read_text()


def test_a_datamodule_of_ones_own_by_target(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    (cli.folder / "mine.py").write_text(OWN_DATA)
    folder = cli.folder / "run"
    own = ["~dataset", "+dataset._target_=mine.Squares", "+dataset.count=160"]
    cli.run(*TINY, *own, f"hydra.run.dir={folder}").refused("mine.Squares", "trusted_modules")
    ended = cli.process(*TINY, *own, "trusted_modules=[mine]", f"hydra.run.dir={folder}").wait()
    assert ended.code == 0, ended.err
    assert "weights 128, arch 32, val 40, test 40" in ended.out
    content = result(folder)
    assert content["dataset"] == "mine.Squares"
    assert content["test_acc"] is not None


def test_tensorboard_gets_the_metrics_and_the_pictures(cli: Commands) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = cli.folder / "run"
    short = ["stages=[search]", "trainer.max_epochs=1", "trainer.limit_train_batches=4", "strategy.alternate=batch"]
    assert cli.run(*TINY, *short, "logger=tensorboard", f"hydra.run.dir={folder}").code == 0
    events = reader.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [0, 1, 2, 3]
    assert set(events.Tags()["images"]) == {"arch/probabilities", "rank/scatter"}
    assert not (folder / "wandb").exists()


def test_no_logger_writes_the_csv_files_alone(undisturbed: tuple[Path, Ended]) -> None:
    assert (undisturbed[0] / "metrics.csv").exists()
    assert not {"wandb", "tensorboard", "lightning_logs"} & {path.name for path in undisturbed[0].iterdir()}
