"""The recipes of EAS and Block-QNN: their numbers, and the whole of each on a few tiny images."""

import csv
import json
from pathlib import Path

import pytest
from recipes import composed, run

SHORT = (
    *("dataset=npz", "dataset.batch_size=8", "dataset.num_workers=0", "dataset.val_fraction=0.1", "logger=none"),
    *("dataset.arch_fraction=0.0", "engine=serial", "child.epochs=1", "child.limit_train_batches=1", "threads=1"),
    *("retrain.epochs=1", "retrain.batch_size=16", "hydra.run.dir=run"),
)
SMALL = {
    "eas_cifar10": (
        *("strategy.trials=4", "strategy.networks=3", "strategy.wider=1", "strategy.deeper=2"),
        *("search_space.filters=[4,8]", "search_space.units=[8]", "search_space.start=[4,4,8,8,8]"),
    ),
    "block_qnn_cifar100": (
        *("strategy.trials=4", "strategy.batch=2", "strategy.epsilons=[[1.0,1],[0.5,1]]", "search_space.layers=3"),
        *("search_space.blocks=1", "search_space.channels=[4,8]"),
    ),
}


def test_eas_on_cifar_has_the_numbers_of_the_authors_code() -> None:
    config = composed("experiment=eas_cifar10", "dataset.root=there")
    strategy, child, space = config.strategy, config.child, config.search_space
    assert (strategy.networks, strategy.wider, strategy.deeper, strategy.trials) == (10, 4, 5, 1 + 450)
    assert (strategy.baseline_rate, strategy.entropy_weight, strategy.optimizer.lr) == (0.95, 1e-5, 2e-3)
    assert (strategy.embedding, strategy.hidden, strategy.restart_every) == (16, 50, None)
    assert (child.epochs, child.optimizer.lr, child.optimizer.weight_decay) == (20, 0.02, 1e-4)
    assert (child.scheduler.T_max, config.dataset.batch_size, 50_000 * config.dataset.val_fraction) == (20, 64, 5_000)
    assert (list(space.start), list(space.pools), space.noise) == ([16, 32, 64, 128, 256], [2, 2, 2, 4], 1.0)
    assert (config.retrain.epochs, config.retrain.scheduler.T_max) == (300, 300)


def test_block_qnn_on_cifar_has_the_papers_numbers() -> None:
    config = composed("experiment=block_qnn_cifar100", "dataset.root=there")
    strategy, child, space = config.strategy, config.child, config.search_space
    assert sum(batches for _, batches in strategy.epsilons) * strategy.batch == strategy.trials == 11_392
    assert [batches for _, batches in strategy.epsilons] == [95, 7, 7, 7, 10, 10, 10, 10, 10, 12]
    assert [epsilon for epsilon, _ in strategy.epsilons] == pytest.approx([1 - 0.1 * i for i in range(10)])
    assert (strategy.learning_rate, strategy.discount, strategy.initial, strategy.replay) == (0.01, 1.0, 0.5, 128)
    assert (strategy.macs_weight, strategy.density_weight, strategy.shaping) == (1.0, 8.0, True)
    assert (space.layers, space.blocks, list(space.channels)) == (23, 4, [32, 64, 128])
    assert (child.epochs, config.dataset.batch_size, child.optimizer.lr) == (12, 256, 1e-3)
    assert child.optimizer.keys() == {"_target_", "_partial_", "lr", "betas"}
    assert (child.scheduler.step_size, child.scheduler.gamma) == (5, 0.2)
    retrain = config.retrain
    assert (retrain.epochs, retrain.batch_size, list(retrain.scheduler.milestones)) == (300, 128, [150, 225])
    assert (retrain.optimizer.lr, retrain.optimizer.momentum, retrain.optimizer.weight_decay) == (0.1, 0.9, 5e-4)


@pytest.mark.parametrize("name", SMALL)
def test_the_whole_of_a_recipe_runs(name: str, images: Path, tmp_path: Path) -> None:
    run(tmp_path, f"experiment={name}", f"dataset.path={images}", *SHORT, *SMALL[name])
    folder = tmp_path / "run"
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert len(rows) == 4
    assert not any(row["failed"] for row in rows)
    assert json.loads((folder / "result.json").read_text())["params"] > 0
    report = (folder / "report.html").read_text()
    assert ("controller/entropy" if name == "eas_cifar10" else "q/epsilon") in report
