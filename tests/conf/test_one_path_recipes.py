"""The recipes of MdeNAS and single-path one-shot: their numbers, and the whole of each on a few tiny images."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from recipes import composed, run

SIZES = ("dataset.image_size=32", "dataset.channels=3", "dataset.num_classes=4", "search_space.image_size=32")
SHORT = {
    "mdenas_cifar10": ("search_space.cells=3", "search_space.channels=4", "search_space.evaluation=[3,4]"),
    "mdenas_imagenet_mobile": ("search_space.backbone=small", "search_space.num_classes=4", *SIZES),
    "spos_imagenet": (
        *("search_space.stem=[8,2]", "search_space.stages=[[16,2,2]]", "search_space.mix=16", "strategy.population=3"),
        *("search_space.num_classes=4", "strategy.generations=2", *SIZES),
    ),
}


def test_mdenas_on_cifar_has_the_papers_numbers() -> None:
    config = composed("experiment=mdenas_cifar10", "dataset.root=there")
    space, strategy, weights = config.search_space, config.strategy, config.strategy.weights_optimizer
    assert (space.cells, space.channels, list(space.evaluation), space.pool_norm) == (6, 16, [20, 36], True)
    assert (config.trainer.max_epochs, config.dataset.batch_size, config.dataset.arch_fraction) == (100, 512, 0.5)
    assert (weights.lr, weights.momentum, weights.weight_decay) == (0.025, 0.9, 3e-4)
    assert (strategy.alpha, strategy.rule, strategy.path_batches, strategy.warmup_epochs) == (0.01, "paper", None, 0)
    assert strategy.path_score_batches is None  # the whole of the arch part
    assert (strategy.weights_scheduler.T_max, config.trainer.check_val_every_n_epoch) == (100, 1)
    retrain = config.retrain
    assert (retrain.epochs, retrain.batch_size, retrain.cutout) == (600, 96, 16)
    assert (retrain.drop_path, retrain.auxiliary_weight) == (0.3, 0.4)


def test_mdenas_on_imagenet_has_nine_options_in_fourteen_blocks() -> None:
    config = composed("experiment=mdenas_imagenet_mobile", "dataset.root=there")
    with torch.device("meta"):
        space = instantiate(config.search_space)
    assert [len(decision.options) for decision in space.decisions] == [9] * 14
    assert (config.strategy.path_batches, config.strategy.alpha) == (None, 0.01)
    retrain = config.retrain
    assert (retrain.epochs, retrain.batch_size, retrain.label_smoothing) == (250, 512, 0.1)
    assert (retrain.optimizer.lr, retrain.optimizer.weight_decay, retrain.scheduler.gamma) == (0.1, 3e-5, 0.97)


def test_spos_on_imagenet_has_the_papers_numbers() -> None:
    config = composed("experiment=spos_imagenet", "dataset.root=there")
    strategy, images = config.strategy, 1_281_167
    batches = images * (1 - config.dataset.val_fraction) // config.dataset.batch_size * config.trainer.max_epochs
    assert batches == pytest.approx(150_000, rel=0.01)
    assert images * config.dataset.val_fraction == pytest.approx(50_000, rel=0.01)
    assert images // config.retrain.batch_size * config.retrain.epochs == pytest.approx(300_000, rel=0.01)
    evolution = (strategy.generations, strategy.population, strategy.parents, strategy.mutation, strategy.limit)
    assert evolution == (20, 50, 10, 0.1, 330e6)
    assert (strategy.sampling, config.latency_table._target_.rpartition(".")[2]) == ("uniform", "Macs")
    assert config.task.label_smoothing == 0.1
    for optimizer in (strategy.weights_optimizer, config.retrain.optimizer):
        assert (optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.5, 0.9, False, 4e-5)
    assert _rates(strategy.weights_scheduler, 125) == pytest.approx([0.5 * (1 - e / 125) for e in range(125)])
    assert _rates(config.retrain.scheduler, 240) == pytest.approx([0.5 * (1 - e / 240) for e in range(240)])


def _rates(schedule: object, epochs: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler, rates = instantiate(schedule)(optimizer), []
    for _ in range(epochs):
        rates.append(float(scheduler.get_last_lr()[0]))
        optimizer.step()
        scheduler.step()
    return rates


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, file = np.random.default_rng(0), tmp_path_factory.mktemp("images") / "images.npz"
    arrays = {f"x_{part}": rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for part, n in (("train", 160), ("test", 20))}
    np.savez(file, **arrays, y_train=np.arange(160) % 4, y_test=np.arange(20) % 4)
    return file


@pytest.mark.parametrize("name", SHORT)
def test_the_whole_of_a_recipe_runs(name: str, images: Path, tmp_path: Path) -> None:
    short = (
        *("dataset=npz", f"dataset.path={images}", "dataset.batch_size=4", "dataset.num_workers=0", "threads=1"),
        *("dataset.val_fraction=0.1", "trainer.max_epochs=2", "trainer.limit_train_batches=2", "logger=none"),
        *("strategy.score_batches=1", "retrain.epochs=1", "retrain.batch_size=16", "hydra.run.dir=run"),
    )
    run(tmp_path, f"experiment={name}", *short, *SHORT[name])
    folder = tmp_path / "run"
    assert json.loads((folder / "result.json").read_text())["params"] > 0
    if name == "spos_imagenet":
        rows = list(csv.DictReader((folder / "evolution.csv").open()))
        assert [row["generation"] for row in rows] == ["0"] * 3 + ["1"] * 3
        assert max(float(row["cost"]) for row in rows) <= 330e6
        assert len({row["key"] for row in rows}) == 6
        assert ">Evolution<" in (folder / "report.html").read_text()
    else:
        rows = list(csv.DictReader((folder / "probabilities.csv").open()))
        assert {row["epoch"] for row in rows} == {"0", "1"}
        assert re.search(r"Heat maps of \w+ over 2 epochs", (folder / "report.html").read_text())


def test_the_ranking_hypothesis_is_drawn_and_a_run_that_stopped_goes_on(images: Path, tmp_path: Path) -> None:
    short = (
        *("experiment=ranking_hypothesis", "dataset=npz", f"dataset.path={images}", "dataset.batch_size=16"),
        *("search_space=spos_shufflenet_small", "ranking.networks=3", "ranking.epochs=3", "logger=none"),
        *("ranking.limit_train_batches=1", f"paths.cache={tmp_path}/kept", "threads=1"),
    )
    run(tmp_path, *short, "hydra.run.dir=run")
    rows = list(csv.DictReader((tmp_path / "run" / "ranking.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    for row in rows:
        if row["kendall_tau"]:
            assert float(row["p_tau"]) == pytest.approx((float(row["kendall_tau"]) + 1) / 2)
    curves = list(csv.DictReader((tmp_path / "run" / "curves.csv").open()))
    assert len(curves) == 9
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["networks"], result["epochs"]) == (3, 3)
    kept = sorted((tmp_path / "kept" / "curves").rglob("*.json"))
    times = [file.stat().st_mtime_ns for file in kept[1:]]
    kept[0].unlink()
    run(tmp_path, *short, "hydra.run.dir=again")
    assert [file.stat().st_mtime_ns for file in kept[1:]] == times
    assert (tmp_path / "again" / "curves.csv").read_text() == (tmp_path / "run" / "curves.csv").read_text()
