"""Spaces from input_shape and num_classes alone: the sizes are those of the configurations."""

from __future__ import annotations

import importlib
import inspect
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_nas.errors import InputError
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.chains.mobile import MobileSpace
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace

CONFIGURATIONS = Path(__file__).parents[2] / "conf" / "search_space"
FROM_DATA = {"${dataset.channels}": 1, "${dataset.num_classes}": 10, "${dataset.bptt}": 5}
SMALL = sorted(path.stem for path in CONFIGURATIONS.glob("*_small.yaml"))
LARGE = ["darts_imagenet", "fbnet", "mnasnet", "mobile", "nasnet_imagenet", "pnas_imagenet", "proxyless"]
LARGE += ["spos_shufflenet"]
ROBUST = ["darts_s2_small", "darts_s3_small"]
WORDS = ["darts_rnn", "enas_rnn", "nas_rl_rnn"]


def configured(name: str, image_size: int) -> tuple[type[SearchSpace], dict[str, Any]]:
    """Class and arguments that a configuration says."""
    content = yaml.safe_load((CONFIGURATIONS / f"{name}.yaml").read_text())
    module, _, cls = content.pop("_target_").rpartition(".")
    content.pop("defaults", None)
    known = FROM_DATA | {"${dataset.image_size}": image_size}
    values = {key: known.get(value, value) if isinstance(value, str) else value for key, value in content.items()}
    return getattr(importlib.import_module(module), cls), values


def described(space: SearchSpace) -> list[str]:
    """Everything that makes a space: names, decisions, operations, and a network with its dropout; retrained too."""
    drawn = space.sample(torch.Generator().manual_seed(0))
    with torch.device("meta"):
        networks = [str(s.network(drawn)) for s in (space, space.evaluation())]
    return [space.name, space.digest, space.evaluation().digest, *networks]


@pytest.mark.parametrize("name", SMALL)
def test_small_images_and_vocabularies_get_the_small_configuration(name: str) -> None:
    make, values = configured(name, image_size=8)
    shape = values.get("bptt", (1, 8, 8))
    chosen = {key: values[key] for key in ("name", "operations") if name in ROBUST}  # no size
    assert described(make(input_shape=shape, num_classes=10, **chosen)) == described(make(**values))


@pytest.mark.parametrize("name", LARGE)
def test_large_images_get_the_papers_sizes(name: str) -> None:
    make, values = configured(name, image_size=224)
    values |= {"num_classes": 7}
    assert described(make(input_shape=(3, 224, 224), num_classes=7)) == described(make(**values))


@pytest.mark.parametrize("name", WORDS)
def test_large_vocabularies_get_the_papers_sizes(name: str) -> None:
    make, values = configured(name, image_size=0)
    values |= {"num_classes": 2_001}
    assert described(make(input_shape=(5,), num_classes=2_001)) == described(make(**values))


def test_arguments_win_over_the_sizes_of_the_images() -> None:
    space = FBNetSpace("mine", input_shape=(3, 32, 32), num_classes=10, stages=[(8, 2, 2)])
    assert (space.name, len(space.layers), space.head) == ("mine", 2, 128)
    assert DARTSSpace(input_shape=[3, 224, 224], num_classes=5, stem="cifar").form.stem == "cifar"


def test_the_threshold_is_64_pixels() -> None:
    at, above = (MobileSpace(input_shape=(3, n, n), num_classes=10) for n in (64, 65))
    assert (at.name, above.name) == ("mobile_small", "mobile")


@pytest.mark.parametrize("shape", [(32, 32), (3, 32, 32, 1), (0, 32, 32), (3, 32.0, 32.0), 32, "abc"])
def test_shapes_that_are_no_image_are_refused(shape: Any) -> None:
    with pytest.raises(InputError, match=r"must be \(channels, height, width\)") as caught:
        FBNetSpace(input_shape=shape, num_classes=10)
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("shape", [(5, 6), 0, (0,), "ab", 5.0])
def test_shapes_that_are_no_window_are_refused(shape: Any) -> None:
    with pytest.raises(InputError, match="words of a window"):
        DARTSRNNSpace(input_shape=shape, num_classes=10)


def test_contradictions_are_refused_and_repetitions_are_not() -> None:
    for wrong in ({"image_size": 64}, {"in_channels": 1}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}=.* came too"):
            FBNetSpace(input_shape=(3, 32, 32), num_classes=10, **wrong)
    with pytest.raises(InputError, match="bptt=4 came too"):
        DARTSRNNSpace(input_shape=5, bptt=4, num_classes=10)
    space = FBNetSpace(input_shape=(3, 32, 32), image_size=32, in_channels=3, num_classes=10)
    assert space.input_shape == (3, 32, 32)


def test_a_shape_without_a_number_of_classes_is_refused() -> None:
    with pytest.raises(InputError, match="num_classes"):
        FBNetSpace(input_shape=(3, 32, 32))


@pytest.mark.parametrize("name", SMALL)
def test_signatures_show_annotations_and_defaults(name: str) -> None:
    make, values = configured(name, image_size=8)
    parameters = inspect.signature(make).parameters
    assert {"input_shape", *values} <= set(parameters)
    assert all(p.kind is not p.VAR_KEYWORD and p.default is not p.empty for p in parameters.values())
    hints = typing.get_type_hints(make.__init__, include_extras=True)
    assert set(parameters) <= set(hints)
