"""A space as plain JSON and back, for every configured space and the spaces made from them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lightning_nas.architecture import Architecture
from lightning_nas.cli import presets
from lightning_nas.errors import InvalidArchitecture
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.description import _MODULES, describe, network_of, rebuilt
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.testing.toys import ToySpace

RAW = describe(NASBench201Space(input_shape=(1, 8, 8), num_classes=10))


@cache
def made(name: str) -> list[SearchSpace]:
    """The configured space, with that of its retrained networks."""
    config = OmegaConf.load(presets.files("search_space")[name])
    config.pop("defaults", None)
    images, text = {"image_size": 64, "channels": 3}, {"bptt": 5}
    both = images if name == "from_model" else images | text  # which with text is a language model
    dataset = {**both, "num_classes": 10}
    space = instantiate(OmegaConf.create({"dataset": dataset, "space": config}).space)
    return [space, space.evaluation(), *([space.wider()] if isinstance(space, WeightSharingSpace) else [])]


@pytest.mark.parametrize("name", presets.names("search_space"))
def test_every_configured_space_comes_back_from_json(name: str) -> None:
    for space in made(name):
        described = json.loads(json.dumps(describe(space)))
        other = rebuilt(described)
        assert (type(other), other.name, other.decisions) == (type(space), space.name, space.decisions)
        assert (other.input_shape, other.num_classes) == (space.input_shape, space.num_classes)
        assert describe(other) == described
        if name.endswith("_small"):
            drawn = space.sample(torch.Generator().manual_seed(0))
            with torch.device("meta"):
                networks = [str(s.network(drawn)) for s in (space, other)]
            assert networks[0] == networks[1]


def test_every_public_space_has_a_preset_or_is_made_from_one() -> None:
    found = {type(space).__name__ for name in presets.names("search_space") for space in made(name)}
    assert found == set(_MODULES)


def test_sizes_that_fit_the_images_are_written_out() -> None:
    described = describe(FBNetSpace("mine", input_shape=(1, 28, 28), num_classes=5))
    assert described is not None
    arguments = described["arguments"]
    assert (arguments["name"], arguments["image_size"], arguments["num_classes"]) == ("mine", 28, 5)
    assert arguments["stages"] != describe(FBNetSpace())["arguments"]["stages"]  # type: ignore[index]
    assert "input_shape" not in arguments


def test_a_space_of_a_persons_own_has_no_description() -> None:
    class Mine(NASBench201Space):
        pass

    assert describe(ToySpace()) is None
    assert describe(Mine()) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "expected the keys class, arguments; got 'NoneType'"),
        ({"class": "os.system", "arguments": {}}, "class 'os.system' is no search space"),
        ({"class": ["NASBench201Space"], "arguments": {}}, "is no search space"),
        ({"class": "NASBench201Space", "arguments": []}, "'arguments' must be an object"),
        ({"class": "NASBench201Space", "arguments": {"depth": 3}}, "takes no 'depth'; legal: affine, cells"),
        ({"class": "NASBench201Space", "arguments": {"channels": "8"}}, "channels: got '8'"),
        ({"class": "NASBench201Space", "arguments": {"channels": 2**40}}, "legal: at most"),
        ({"class": "NASBench201Space", "arguments": {"image_size": 1}}, "images of at least 4 pixels"),
        ({"class": "NASBench201Space", "arguments": {"name": None}}, "name: got None"),
        ({"class": "FBNetSpace", "arguments": {"stages": [[2, 1]]}}, "stages: got [[2, 1]]"),
    ],
)
def test_what_is_no_description_is_refused_in_one_line(content: Any, said: str) -> None:
    with pytest.raises(InvalidArchitecture) as caught:
        rebuilt(content, where="x.json")
    assert str(caught.value).startswith("x.json: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_architecture_without_sizes_builds_no_network() -> None:
    architecture = NASBench201Space().sample(torch.Generator().manual_seed(0))
    with pytest.raises(InvalidArchitecture, match="no sizes of the network"):
        network_of(architecture, None)
    with pytest.raises(InvalidArchitecture, match="num_classes: got 0"):
        network_of(architecture, {"space": RAW, "num_classes": 0})
    with pytest.raises(InvalidArchitecture, match="not of 'nasbench201"):
        network_of(Architecture("other", ()), {"space": RAW, "num_classes": 4})
