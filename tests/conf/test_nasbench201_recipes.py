"""The recipes of one-shot searches on NAS-Bench-201: their numbers, and the whole of each on a few tiny images."""

import csv
import json
import os
from pathlib import Path

import pytest
from recipes import composed, run

EPOCHS = {"spos": 250, "random_ws": 250, "darts": 50, "gdas": 250, "drnas": 100}  # of the benchmark; SPOS as RSPS
SHORT = (
    *("dataset.batch_size=8", "dataset.val_fraction=0.2", "dataset.num_workers=0", "search_space.channels=4"),
    *("search_space.cells=[1,1,1]", "trainer.max_epochs=2", "trainer.limit_train_batches=2", "logger=none"),
    *("trainer.log_every_n_steps=1", "callbacks.rank_check.architectures=4", "callbacks.rank_check.top_k=2"),
)


@pytest.mark.parametrize("strategy", EPOCHS)
def test_a_recipe_has_the_benchmarks_numbers(strategy: str) -> None:
    config = composed(f"experiment={strategy}_nasbench201", "dataset.root=there")
    space, weights = config.search_space, config.strategy.weights_optimizer
    assert (space.channels, list(space.cells), space.affine, space.image_size) == (16, [5, 5, 5], False, 32)
    assert (config.trainer.max_epochs, config.dataset.batch_size) == (EPOCHS[strategy], 64)
    assert (weights.lr, weights.momentum, weights.weight_decay, weights.nesterov) == (0.025, 0.9, 5e-4, True)
    assert (config.strategy.weights_scheduler.eta_min, config.strategy.weights_clip) == (0.001, 5.0)
    if strategy in ("darts", "gdas", "drnas"):
        arch = config.strategy.arch_optimizer
        assert (arch.lr, list(arch.betas), arch.weight_decay) == (3e-4, [0.5, 0.999], 1e-3)
        assert config.dataset.arch_fraction == 0.5
    else:
        assert config.dataset.val_fraction == 0.5


@pytest.mark.skipif("LIGHTNING_NAS_DATA" not in os.environ, reason="LIGHTNING_NAS_DATA names no folder")
@pytest.mark.parametrize("strategy", EPOCHS)
def test_the_whole_of_a_recipe_is_judged_by_the_table(strategy: str, images: Path, tmp_path: Path) -> None:
    few = {"random_ws": ["strategy.candidates=2"]}.get(strategy, [])
    few += ["strategy.generations=2", "strategy.population=2", "strategy.parents=1"] if strategy == "spos" else []
    few += (
        ["strategy.k=[2,1]", "strategy.stage_epochs=1", "strategy.arch_warmup_epochs=0"] if strategy == "drnas" else []
    )
    data = ["dataset=npz", f"dataset.path={images}", "callbacks.rank_check.truth.any_data=true"]
    run(tmp_path, f"experiment={strategy}_nasbench201", *data, *SHORT, *few, "hydra.run.dir=run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert 10 < 100 * result["tabulated_acc"]["CIFAR-10"] < 95
    with (tmp_path / "run" / "rank.csv").open() as file:
        [*_, last] = csv.DictReader(file)
    assert last["architectures"] == "4"
    assert float(last["kendall_tau_truth"]) > 0
