"""The recipes of ENAS: their numbers, and the whole of each on a few tiny images or words."""

import json
import random
from pathlib import Path

import pytest
from recipes import composed, run

SHORT = (
    *("dataset.batch_size=8", "trainer.max_epochs=1", "trainer.limit_train_batches=4", "trainer.log_every_n_steps=1"),
    *("strategy.score_batches=1", "strategy.candidates=2", "strategy.aggregate=2", "retrain.epochs=1"),
    *("retrain.batch_size=8", "logger=none", "hydra.run.dir=run"),
)
ON_IMAGES = ("dataset=npz", "dataset.num_workers=0", "dataset.val_fraction=0.1", "dataset.arch_fraction=0.3")
SMALL = {
    "macro": ("search_space.layers=3", "search_space.channels=8", "search_space.evaluation=[4,0.5]"),
    "micro": (
        *("search_space.layers=1", "search_space.nodes=2", "search_space.channels=8"),
        "search_space.evaluation=[3,4,0.2]",
    ),
}
# batch and epochs of the search, l2, lowest rate; batch and epochs of the retraining, auxiliary weight, lowest rate
RECIPES = {
    "macro": ((128, 310, 2.5e-4, 5e-4), (100, 310, 0.0, 1e-3)),
    "micro": ((160, 150, 1e-4, 5e-4), (144, 630, 0.4, 1e-4)),
}
# lr, tanh constant, what divides it for operations, temperature, entropy weight, weight and share of connections
CONTROLLERS = {
    "paper": (3.5e-4, 2.5, 1.0, 5.0, 0.1, 0.8, 0.4),
    "macro_script": (1e-3, 1.5, 1.0, None, 1e-4, 0.8, 0.4),
    "micro_script": (3.5e-3, 1.1, 2.5, None, 1e-4, 0.0, 0.4),
}


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller_has_the_numbers_of_its_source(name: str) -> None:
    strategy = composed("strategy=enas", f"strategy/controller={name}").strategy
    shape = strategy.controller
    numbers = (strategy.arch_optimizer.lr, shape.tanh_constant, shape.op_tanh_reduce, shape.temperature)
    assert (*numbers, strategy.entropy_weight, strategy.skip_weight, shape.share) == CONTROLLERS[name]
    assert (shape.hidden, shape.init) == (100 if name == "paper" else 64, 0.1)
    assert (strategy.arch_optimizer.betas, strategy.arch_optimizer.eps) == ([0.0, 0.999], 1e-3)
    assert bool(shape.fixed_bias) == bool(shape.learned_bias) == (name == "micro_script")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_scripts_numbers(name: str) -> None:
    config = composed(f"experiment=enas_cifar10_{name}", "dataset.root=there")
    weights, schedule = config.strategy.weights_optimizer, config.strategy.weights_scheduler
    searched = (config.dataset.batch_size, config.trainer.max_epochs, weights.weight_decay / 2, schedule.eta_min)
    retrain = config.retrain
    retrained = (retrain.batch_size, retrain.epochs, retrain.auxiliary_weight, retrain.scheduler.eta_min)
    assert (searched, retrained) == RECIPES[name]
    for optimizer, restarts in ((weights, schedule), (retrain.optimizer, retrain.scheduler)):
        assert (optimizer.lr, optimizer.momentum, optimizer.nesterov) == (0.05, 0.9, True)
        assert (restarts.T_0, restarts.T_mult) == (10, 2)
    assert retrain.optimizer.weight_decay == 2 * 2e-4
    assert config.strategy.aggregate == {"macro": 20, "micro": 10}[name]
    assert (config.strategy.baseline_decay, config.strategy.samples, config.strategy.weights_clip) == (0.99, 1, None)
    assert composed(f"experiment=enas_cifar10_{name}", "dataset.root=there", "strategy/controller=paper")


@pytest.mark.parametrize("name", RECIPES)
def test_the_whole_of_a_recipe_runs(name: str, images: Path, tmp_path: Path) -> None:
    settings = [f"experiment=enas_cifar10_{name}", *ON_IMAGES, f"dataset.path={images}", *SHORT, *SMALL[name]]
    run(tmp_path, *settings)
    folder = tmp_path / "run"
    assert json.loads((folder / "architecture.json").read_text())["space"] == f"enas_{name}"
    assert (folder / "result.json").is_file()
    report = (folder / "report.html").read_text()
    assert all(key in report for key in ("arch/entropy", "arch/reward", "arch/baseline"))


def test_the_recipe_of_texts_has_the_papers_numbers() -> None:
    config = composed("experiment=enas_ptb", "dataset.path=there")
    strategy, data = config.strategy, config.dataset
    assert (config.search_space.nodes, data.bptt, data.batch_size, config.trainer.max_epochs) == (12, 35, 64, 150)
    weights, schedule = strategy.weights_optimizer, strategy.weights_scheduler
    assert (weights.lr, weights.momentum, weights.weight_decay, strategy.weights_clip) == (20, 0, 1e-7, 0.25)
    assert (schedule.gamma, schedule.first_epoch) == (0.96, 15)
    shape = strategy.controller
    assert (shape.hidden, shape.temperature, shape.tanh_constant) == (100, 5.0, 2.5)
    assert (strategy.arch_optimizer.lr, strategy.entropy_weight, config.task.reward_scale) == (3.5e-4, 1e-4, 80)


def test_the_recipe_of_the_later_code_has_its_numbers() -> None:
    config = composed("experiment=enas_lm", "dataset.path=there")
    strategy, data, space, shape = config.strategy, config.dataset, config.search_space, config.strategy.controller
    sizes = (space.width, space.evaluation.width, data.batch_size, data.bptt, config.trainer.max_epochs)
    assert sizes == (200, 800, 128, 35, 600)
    weights = strategy.weights_optimizer
    assert (weights.lr, weights.weight_decay, strategy.weights_clip, strategy.aggregate) == (20, 8e-7, 0.1, 10)
    assert (shape.hidden, shape.init, shape.temperature, shape.tanh_constant) == (64, 0.01, 5.0, 2.25)
    assert (strategy.arch_optimizer.lr, strategy.entropy_weight, strategy.baseline_decay) == (5e-5, 1e-5, 0.999)
    drops = ("words", "input", "x", "hidden", "output")
    assert [space[f"drop_{where}"] for where in drops] == [0.1, 0.2, 0.75, 0.25, 0.75]
    assert [space.evaluation[f"drop_{where}"] for where in drops] == [0.125, 0.175, 0.725, 0.225, 0.75]
    assert (config.task.slowness, config.retrain.epochs, config.retrain.clip) == (1.0, 3000, 0.25)


@pytest.mark.parametrize(("name", "size"), [("enas_ptb", "nodes"), ("enas_lm", "steps")])
def test_the_whole_of_a_recipe_of_texts_runs(name: str, size: str, tmp_path: Path) -> None:
    words, draw = [f"w{i}" for i in range(12)], random.Random(0)
    for part, lines in (("train", 80), ("valid", 12), ("test", 12)):
        text = "\n".join(" ".join(draw.choices(words, k=8)) for _ in range(lines))
        (tmp_path / f"ptb.{part}.txt").write_text(text)
    small = ("search_space.width=8", f"search_space.{size}=3", "search_space.evaluation.width=10", "dataset.bptt=5")
    rates = ("strategy.weights_optimizer.lr=1", "retrain.optimizer.lr=1", "dataset.eval_batch_size=2")
    own = ("dataset.batch_size=2", "retrain.batch_size=4", f"dataset.path={tmp_path}")
    run(tmp_path, f"experiment={name}", *SHORT, *small, *rates, *own)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_ppl"] > 1
