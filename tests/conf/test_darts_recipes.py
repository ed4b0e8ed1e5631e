"""The recipes of DARTS and its relatives on CIFAR-10: their numbers, and the whole of each on a few tiny images."""

import json
from pathlib import Path

import pytest
from recipes import composed, run

# epochs, batch, lr of the weights, weight decay, lr and first beta of alpha, warm-up: as the papers' sheets have them
RECIPES = {
    "darts_cifar10_first": (50, 64, 0.025, 3e-4, 3e-4, 0.5, 0),
    "darts_cifar10_second": (50, 64, 0.025, 3e-4, 3e-4, 0.5, 0),
    "darts_minus_cifar10": (50, 64, 0.025, 3e-4, 3e-4, 0.5, 0),
    "fair_darts_cifar10": (50, 128, 0.005, 3e-4, 3e-3, 0.9, 0),
    "gdas_cifar10": (250, 64, 0.025, 5e-4, 3e-4, 0.5, 0),
    "p_darts_cifar10": (75, 96, 0.025, 3e-4, 6e-4, 0.5, 10),
    "pc_darts_cifar10": (50, 256, 0.1, 3e-4, 6e-4, 0.5, 15),
    "snas_cifar10": (150, 64, 0.025, 3e-4, 3e-4, 0.5, 0),
}
SHORT = (
    *("dataset.batch_size=8", "dataset.num_workers=0", "dataset.val_fraction=0.1"),
    *("search_space.cells=3", "search_space.channels=4", "search_space.evaluation=[3,4]", "trainer.max_epochs=2"),
    *("trainer.limit_train_batches=1", "trainer.log_every_n_steps=1", "strategy.arch_warmup_epochs=0"),
    *("strategy.score_batches=1", "retrain.epochs=1", "retrain.batch_size=8", "logger=none"),
)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_papers_numbers(name: str) -> None:
    config = composed(f"experiment={name}", "dataset.root=there")
    strategy = config.strategy
    weights, arch = strategy.weights_optimizer, strategy.arch_optimizer
    numbers = (config.trainer.max_epochs, config.dataset.batch_size, weights.lr, weights.weight_decay)
    assert (*numbers, arch.lr, arch.betas[0], strategy.arch_warmup_epochs) == RECIPES[name]
    assert (weights.momentum, arch.weight_decay, config.dataset.arch_fraction) == (0.9, 1e-3, 0.5)
    assert (config.search_space.channels, config.search_space.image_size) == (16, 32)
    assert (config.retrain.epochs, config.retrain.auxiliary_weight, config.retrain.cutout) == (600, 0.4, 16)
    assert list(config.search_space.evaluation) == [20, 36]


@pytest.mark.parametrize("name", RECIPES)
def test_the_whole_of_a_recipe_runs(name: str, images: Path, tmp_path: Path) -> None:
    own = ["strategy.stage_epochs=1", "strategy.added_cells=[0,1,1]"] if name.startswith("p_") else []
    own += ["trainer.max_epochs=3"] if own else []
    own += ["strategy.threshold=0.5"] if name.startswith("fair_") else []  # about where all weights still are
    settings = [f"experiment={name}", "dataset=npz", f"dataset.path={images}", *SHORT, *own, "hydra.run.dir=run"]
    run(tmp_path, *settings)
    for file in ("architecture.json", "result.json", "report.html"):
        assert (tmp_path / "run" / file).is_file()
    space = json.loads((tmp_path / "run" / "architecture.json").read_text())["space"]
    assert space == ("darts_cell" if name.startswith("fair_") else "darts")
