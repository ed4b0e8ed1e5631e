"""The recipes of NAS-RL, NASNet and MnasNet: their papers' numbers, and what was found put into a larger network."""

import json
from pathlib import Path

import pytest
from hydra.utils import instantiate
from recipes import ON_IMAGENET, composed, run

from lightning_nas.architecture import Architecture
from lightning_nas.strategies.controllers.controller import Controller
from lightning_nas.testing.toys import ToySpace
from lightning_nas.training.seeding import generator

# layers, hidden units and range of the controller; rate of Adam; children of a minibatch; trials; epochs of a child
RECIPES = {
    "nas_rl_cifar10": (2, 35, 0.08, 6e-4, 8, 12800, 50),
    "nas_rl_ptb": (2, 35, 0.08, 5e-4, 1, 12800, 35),
    "nasnet_cifar10": (1, 100, 0.1, 3.5e-4, 20, 20000, 20),
    "mnasnet_imagenet": (1, 100, 0.1, 3.5e-4, 20, 8000, 5),
}
SMALL = ("search_space.filters=4", "search_space.cells=1", "search_space.blocks=2")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_papers_numbers(name: str) -> None:
    config = composed(f"experiment={name}", "dataset.root=there" if "ptb" not in name else "dataset.path=there")
    strategy = config.strategy
    shape = (strategy.controller.layers, strategy.controller.hidden, strategy.controller.init, strategy.optimizer.lr)
    assert (*shape, strategy.children, strategy.trials, config.child.epochs) == RECIPES[name]
    assert (strategy.ordered, strategy.controller.tanh_constant, strategy.controller.temperature) == (False, None, None)
    controller = instantiate(strategy.controller)(ToySpace(), generator(0))
    assert isinstance(controller, Controller)
    assert len(controller.lstms) == RECIPES[name][0]


def test_replicas_and_depths_are_the_papers() -> None:
    images = composed("experiment=nas_rl_cifar10", "dataset.root=there")
    assert images.strategy.in_flight == images.strategy.replicas * images.strategy.children == 800
    assert (images.strategy.depth_every, images.search_space.depths[:3]) == (1600, [6, 8, 10])
    assert (images.strategy.exponent, images.strategy.last, images.child.scheduler) == (3.0, 5, None)
    child = images.child.optimizer
    assert (child.lr, child.momentum, child.nesterov, child.weight_decay) == (0.1, 0.9, True, 1e-4)
    text = composed("experiment=nas_rl_ptb", "dataset.path=there").strategy
    assert (text.replicas, text.in_flight, text.accumulate, text.exponent) == (400, 400, 10, 2.0)


def test_the_decay_of_mnasnets_rate_is_the_papers() -> None:
    recipe = composed("experiment=mnasnet_imagenet", "dataset.root=there").retrain
    assert recipe.scheduler.gamma**2.4 == pytest.approx(0.97, abs=1e-5)
    assert (recipe.optimizer.lr, recipe.batch_size, recipe.epochs) == (0.016 * 4096 / 256, 4096, 350)


def test_the_hard_constraint_is_a_penalty_of_its_own() -> None:
    penalty = composed("strategy=mnasnet", "strategy/penalty=mnasnet_hard").strategy.penalty
    assert (penalty.alpha, penalty.beta, penalty.target) == (0.0, -1.0, None)


def test_cells_found_on_small_images_are_transferred_to_imagenet(root: Path, images: Path, tmp_path: Path) -> None:
    few = ("trainer.log_every_n_steps=1", "logger=none", "retrain.epochs=1", "retrain.batch_size=8")
    searched = (
        *("dataset=npz", f"dataset.path={images}", "dataset.num_workers=0", "dataset.batch_size=16"),
        *("engine=serial", "strategy.trials=2", "child.epochs=1", "child.limit_train_batches=1", *SMALL),
        *("stages=[search]", *few, "hydra.run.dir=found"),
    )
    run(tmp_path, "experiment=nasnet_cifar10", *searched)
    on_imagenet = [setting for setting in ON_IMAGENET if not setting.startswith("strategy.")]
    enlarged = (
        "dataset.image_size=96",
        "search_space.image_size=96",
        *SMALL,
        "search_space.filters=8",
        "retrain.auxiliary_weight=0.4",
    )
    found = "architecture=found/architecture.json"
    given = (f"dataset.root={root}", found, *on_imagenet, *enlarged, "hydra.run.dir=transferred")
    run(tmp_path, "experiment=nasnet_imagenet", *given)
    ended = json.loads((tmp_path / "transferred" / "result.json").read_text())
    assert ended["architecture"] == Architecture.load(tmp_path / "found" / "architecture.json").to_dict()
    assert 0 <= ended["test_acc"] <= 1
