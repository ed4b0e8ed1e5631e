"""The recipe of PC-DARTS (arXiv:1907.05737) on ImageNet: its numbers, and the whole of it on a few tiny images."""

import json
from pathlib import Path

import pytest
from recipes import composed, run_on_imagenet

SHORT = (
    *("strategy.weights_scheduler.warmup_epochs=1", "retrain.scheduler.warmup_epochs=1"),
    *("search_space.num_classes=3", "search_space.cells=3", "search_space.channels=4", "search_space.evaluation=[3,4]"),
    *("dataset.search_fraction=0.6", "strategy.arch_warmup_epochs=1"),
    "retrain.auxiliary_weight=0",  # there is such a classifier for large images only
)


def test_the_search_has_the_papers_numbers() -> None:
    config = composed("experiment=pc_darts_imagenet", "dataset.root=there")
    data, space, strategy = config.dataset, config.search_space, config.strategy
    seen = data.search_fraction * (1 - data.val_fraction)
    assert (seen * (1 - data.arch_fraction), seen * data.arch_fraction) == pytest.approx((0.1, 0.025), rel=1e-4)
    assert (space.image_size, space.stem, space.cells, space.channels) == (224, "imagenet", 8, 16)
    assert (config.trainer.max_epochs, data.batch_size, strategy.arch_warmup_epochs, strategy.k) == (50, 1024, 35, 4)
    weights, arch = strategy.weights_optimizer, strategy.arch_optimizer
    assert (weights.lr, weights.momentum, weights.weight_decay) == (0.5, 0.9, 3e-4)
    assert (strategy.weights_scheduler.warmup_epochs, strategy.weights_scheduler.T_max) == (5, 50)
    assert (arch.lr, list(arch.betas), arch.weight_decay) == (6e-3, [0.5, 0.999], 1e-3)
    retrain = config.retrain
    assert (retrain.epochs, retrain.batch_size, retrain.optimizer.lr, retrain.optimizer.weight_decay) == (
        *(250, 1024, 0.5, 3e-5),
    )
    assert (list(space.evaluation), retrain.auxiliary_weight, retrain.label_smoothing) == ([14, 48], 0.4, 0.1)


def test_the_whole_of_it_runs_on_a_folder_in_imagenets_layout(root: Path) -> None:
    folder = root.parent / "run"
    run_on_imagenet(root, folder, "experiment=pc_darts_imagenet", *SHORT)
    result = json.loads((folder / "result.json").read_text())
    assert (result["search_space"], result["dataset"]) == ("darts", "imagenet")
    assert (folder / "report.html").is_file()
