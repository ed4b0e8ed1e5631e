"""Constructors hold their arguments to their annotations in Python too, as the check of a configuration does."""

import copy
import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

import lightning_nas as ln
from lightning_nas.callbacks.short_warm_up import ShortWarmUp
from lightning_nas.cli import presets
from lightning_nas.data.adapt import AdaptedData, Loaders
from lightning_nas.errors import ConfigError
from lightning_nas.experiment.settings import Resuming, Retraining
from lightning_nas.signature import Checked, _checked, check_arguments
from lightning_nas.strategies.controllers.controller import Controller
from lightning_nas.strategies.penalties import AddLinear, FBNetProduct, MnasNetProduct, MulLog
from lightning_nas.testing.toys import ToySpace
from lightning_nas.training.schedules import ExponentialFrom, LinearWarmup, WarmupThenCosine
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.local import LocalEngine
from lightning_nas.trials.engines.lookup import TableEngine
from lightning_nas.trials.engines.ray import RayEngine
from lightning_nas.truth.curves import LearningCurves
from lightning_nas.truth.stand_alone import StandAlone
from lightning_nas.truth.tabulated import TabulatedTruth

UNDER_OTHER_NAMES = (
    *(AddLinear, Child, Controller, ExponentialFrom, FBNetProduct, LearningCurves, LinearWarmup, LocalEngine),
    *(MnasNetProduct, MulLog, RayEngine, Resuming, Retraining, ShortWarmUp, StandAlone, TableEngine, TabulatedTruth),
    WarmupThenCosine,
)
PUBLIC = [made for name in ln.__all__ if isinstance(made := getattr(ln, name), type)]
STRATEGIES = [get_class(presets.content("strategy", name)["_target_"]) for name in presets.names("strategy")]
MADE = [
    made
    for made in {*PUBLIC, *STRATEGIES, *UNDER_OTHER_NAMES}
    if issubclass(made, Checked) and made is not ln.FromModel and _checked(made)[1] and not inspect.isabstract(made)
]
HOSTILE = (-(10**40), float("nan"), float("inf"), "", "\N{SNOWMAN}", {"a": "b"}, ["c"], object())


def refused(made: type) -> Iterator[tuple[str, str]]:
    """The arguments of a class that are checked, each with what its constructor says to hostile values."""
    for name in _checked(made)[1]:
        for value in HOSTILE:
            with pytest.raises(ConfigError) as caught:
                made(**{name: value})
            yield name, str(caught.value)


@pytest.mark.parametrize("made", sorted(MADE, key=lambda made: made.__name__), ids=lambda made: made.__name__)
def test_no_argument_takes_a_hostile_value(made: type) -> None:
    for name, said in refused(made):
        assert said.startswith(f"{made.__name__}: {name}: got ")
        assert "; legal: " in said
        assert said.isprintable()


def test_every_sort_of_part_is_checked() -> None:
    assert len(MADE) > 60
    assert {name for name, _ in refused(ln.FBNet)} >= {"seed", "alpha", "beta", "accumulate", "candidates"}


@pytest.mark.parametrize("sequence", [list, tuple, OmegaConf.create, torch.Size])
def test_every_sequence_counts(sequence: Any) -> None:
    check_arguments(ln.FBNetSpace, [], {"stem": sequence([4, 1]), "head": np.int64(8), "dropout": np.float32(0.5)})
    with pytest.raises(ConfigError, match=r"FBNetSpace: stem: got .*; legal: list of 2"):
        check_arguments(ln.FBNetSpace, [], {"stem": sequence([4, 1, 2])})


def test_arguments_by_position_and_those_of_parents_are_checked() -> None:
    class Mine(ln.FBNet):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)

    with pytest.raises(ConfigError, match="ArchitectureLogger: samples: got -1; legal: int >= 0"):
        ln.ArchitectureLogger(1, -1)
    with pytest.raises(ConfigError, match=r"Mine: weights_clip: got 0; legal: float > 0 or null"):
        Mine(ToySpace(), weights_clip=0)


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (AdaptedData, {"module": Loaders(DataLoader(range(3))), "batch_size": 0}),
        (ln.ImageFolder, {"min_scale": 0.0}),
        (ln.ImageFolder, {"crop_ratio": 0.0}),
        (ln.NPZ, {"std": [0.5, 0.0, 0.5]}),
        (MulLog, {"reference": 0.0}),
        (AddLinear, {"reference": 0.0}),
        (LocalEngine, {"job": None, "slots": 0}),
    ],
)
def test_zero_is_refused_and_not_taken_for_the_default(made: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^{made.__name__}: {[*options][-1]}: got .*; legal: "):
        made(**options)


def test_numbers_in_a_mapping_are_checked() -> None:
    with pytest.raises(ConfigError, match="Controller: learned_bias: got"):
        Controller(ToySpace(), torch.Generator(), learned_bias={"skip": float("nan")})


def test_copies_and_pickles_need_no_arguments() -> None:
    space = ln.FBNetSpace(input_shape=(1, 8, 8), num_classes=10)
    assert copy.deepcopy(space).digest == pickle.loads(pickle.dumps(space)).digest == space.digest
    assert isinstance(pickle.loads(pickle.dumps(Retraining(epochs=3))), Checked)
