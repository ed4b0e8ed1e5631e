"""The recipe of FBNet (arXiv:1812.03443) on ImageNet: its numbers, and the whole of it on a few tiny images."""

import csv
import json
from pathlib import Path

import pytest
import torch
from recipes import composed, run_on_imagenet

from lightning_nas.functional.relaxation import exponential_schedule

SHORT = (
    *("dataset.search_classes=2", "search_space.head=32", "search_space.stages=[[16,1,1],[24,1,2]]"),
    *("strategy.arch_warmup_epochs=1", "strategy.candidates=2", "latency_table.min_run_time=0.001"),
)


def test_the_search_has_the_papers_numbers() -> None:
    config = composed("experiment=fbnet_imagenet", "dataset.root=there")
    data, space, strategy = config.dataset, config.search_space, config.strategy
    assert (data.search_classes, space.num_classes, data.num_classes) == (100, 100, 1000)
    assert (space.image_size, sum(layers for _, layers, _ in space.stages)) == (224, 22)
    assert (data.arch_fraction, strategy.alternate, strategy.arch_warmup_epochs) == (0.2, "epoch", 10)
    assert (config.trainer.max_epochs, data.batch_size) == (90, 192)
    assert (strategy.alpha, strategy.beta) == (0.2, 0.6)
    weights, arch = strategy.weights_optimizer, strategy.arch_optimizer
    assert weights._target_ == "torch.optim.SGD"
    assert (weights.lr, weights.momentum, weights.weight_decay) == (0.1, 0.9, 1e-4)
    assert strategy.weights_scheduler._target_.endswith(".CosineAnnealingLR")
    assert strategy.weights_scheduler.T_max == 90
    assert arch._target_ == "torch.optim.Adam"
    assert (arch.lr, arch.weight_decay) == (0.01, 5e-4)
    assert config.task.label_smoothing == 0


@pytest.mark.parametrize(
    ("epoch", "tau"), [(0, 5.0), (1, 4.7799874), (10, 3.1881408), (45, 0.6599692), (89, 0.0911214)]
)
def test_the_temperature_falls_as_in_the_paper(epoch: int, tau: float) -> None:
    config = composed("experiment=fbnet_imagenet", "dataset.root=there")
    settings, epochs = config.strategy, config.trainer.max_epochs
    assert settings.anneal is None
    assert exponential_schedule(settings.temperature, settings.last_temperature, epoch, epochs) == pytest.approx(
        tau, rel=1e-6
    )


def test_retraining_alone_has_all_classes_and_the_same_rates() -> None:
    whole = composed("experiment=fbnet_imagenet", "dataset.root=there")
    alone = composed("experiment=fbnet_imagenet_retrain", "dataset.root=there", "architecture=fbnet_c")
    assert alone.retrain == whole.retrain
    assert (alone.search_space.num_classes, alone.dataset.search_classes, list(alone.stages)) == (
        1000,
        None,
        ["retrain"],
    )
    assert (alone.task.label_smoothing, alone.search_space.dropout) == (0.1, 0.2)


def test_the_whole_of_it_runs_on_a_folder_in_imagenets_layout(root: Path) -> None:
    folder = root.parent / "run"
    shortened(root, folder, "experiment=fbnet_imagenet", fresh=True)
    result = json.loads((folder / "result.json").read_text())
    assert (result["search_space"], result["dataset"], result["kendall_tau"]) == ("fbnet", "imagenet", None)
    assert len(result["architecture"]["choices"]) == 2
    assert (classes(folder), classes(folder / "retrain")) == (2, 3)
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    # frozen in epoch 0; eight batches an epoch, one of them arch
    assert [row["epoch"] for row in rows if row["arch/loss"]] == ["1"]
    again = root.parent / "again"
    alone = "experiment=fbnet_imagenet_retrain", "dataset.search_classes=null"
    shortened(root, again, *alone, f"architecture={folder}/architecture.json")
    assert json.loads((again / "result.json").read_text())["params"] == result["params"]


def classes(folder: Path) -> int:
    """Width of the classifier that was trained."""
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return len(next(value for name, value in reversed(state.items()) if name.endswith("bias") and "head" in name))


def shortened(root: Path, folder: Path, *overrides: str, fresh: bool = False) -> None:
    run_on_imagenet(root, folder, *SHORT, *overrides, fresh=fresh)
