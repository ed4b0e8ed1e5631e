"""The recipes of NASNet and AmoebaNet have the numbers of their sources, and go with the spaces they are for."""

import pytest
import torch
from hydra.utils import instantiate
from recipes import composed

from lightning_nas import zoo
from lightning_nas.latency.macs import count_params

# epochs, batch, rate, weight decay, clip, auxiliary weight, drop path, label smoothing
RECIPES = {
    "nasnet_cifar": (600, 32, 0.025, 5e-4, 5.0, 0.4, 0.4, None),
    "nasnet_mobile": (250, 32 * 50, 0.04 * 50, 4e-5, 10.0, 0.4, 0.0, 0.1),
    "nasnet_large": (250, 16 * 100, 0.015 * 100, 5e-5, 10.0, 0.4, 1 - 0.7, 0.1),
    "amoebanet_cifar": (600, 128, 0.024, 5e-4, None, 0.5, 1 - 0.7, None),
    "amoebanet_imagenet": (250, 1600, 0.001, 4e-5, None, 0.4, 1 - 0.7, 0.1),
}
# gamma to the power of so many epochs is 0.97
DECAY = {"nasnet_mobile": 2.4, "nasnet_large": 2.4, "amoebanet_imagenet": 2.0}
LARGE = ("image_size=331", "cells=6", "filters=168", "stem_multiplier=3", "pass_reduction=true")
PNAS_LARGE = ("image_size=331", "cells=4", "filters=216", "stem_multiplier=3")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_numbers_of_its_source(name: str) -> None:
    recipe = composed(f"retrain={name}").retrain
    numbers = (recipe.epochs, recipe.batch_size, recipe.optimizer.lr, recipe.optimizer.weight_decay, recipe.clip)
    rest = (recipe.auxiliary_weight, recipe.drop_path, recipe.label_smoothing)
    for ours, theirs in zip((*numbers, *rest), RECIPES[name], strict=True):
        assert ours == (None if theirs is None else pytest.approx(theirs))
    assert recipe.drop_path_interval == "step"
    if name in DECAY:
        assert recipe.scheduler.gamma ** DECAY[name] == pytest.approx(0.97, abs=1e-5)
        assert (recipe.optimizer.alpha, recipe.optimizer.eps) == (0.9, 1.0 if name.startswith("nasnet") else 0.1)
    else:
        assert (recipe.optimizer.momentum, recipe.scheduler.T_max) == (0.9, recipe.epochs)


@pytest.mark.parametrize(
    ("choice", "sizes", "entry"),
    [
        ("nasnet_cell", (), "nasnet_a_cifar"),
        ("nasnet_cell_imagenet", (), "nasnet_a_mobile"),
        ("nasnet_cell_imagenet", LARGE, "nasnet_a_large"),
        ("pnas_imagenet", (), "pnasnet5_mobile"),
        ("pnas_imagenet", PNAS_LARGE, "pnasnet5_large"),
    ],
)
def test_a_published_network_can_be_retrained_as_its_space_says(
    choice: str, sizes: tuple[str, ...], entry: str
) -> None:
    data = ("dataset.num_classes=10", "dataset.image_size=32", "dataset.channels=3")
    config = composed(f"search_space={choice}", *data, *(f"search_space.{size}" for size in sizes))
    space = instantiate(config.search_space)
    with torch.device("meta"):
        assert count_params(space.network(zoo.load(entry))) == count_params(zoo.network(entry))
    assert space.input_shape == zoo.space(entry).input_shape


def test_a_cifar_answer_is_an_architecture_of_the_imagenet_space() -> None:
    for name in ("nasnet", "pnas"):
        searched, transferred = (
            instantiate(composed(f"search_space={space}").search_space) for space in (name, f"{name}_imagenet")
        )
        architecture = searched.sample(torch.Generator().manual_seed(0))
        assert transferred.validate(architecture) == architecture


def test_the_papers_searches_have_their_sizes() -> None:
    for name, sizes in {
        "nasnet": ((2, 32), (6, 32)),
        "amoebanet": ((3, 24), (6, 36)),
        "pnas": ((2, 24), (3, 48)),
    }.items():
        space = instantiate(composed(f"search_space={name}").search_space)
        assert tuple((s.form.cells, s.form.filters) for s in (space, space.evaluation())) == sizes
