"""A strategy made in Python has the defaults of its YAML file, and shows all its arguments."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, get_type_hints

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig
from strategies_of_conf import FILES, composed, strategy_class, toy_for

import lightning_nas as ln
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.differentiable.base import DifferentiableSearch
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.multi_trial.children import inheriting_child, usual_child
from lightning_nas.strategies.multi_trial.mnasnet import NASNetOptions
from lightning_nas.strategies.multi_trial.nasnet import NASNet
from lightning_nas.strategies.multi_trial.policy import PolicySearch
from lightning_nas.strategies.one_path.enas import ENAS
from lightning_nas.strategies.one_path.spos import SPOS
from lightning_nas.strategies.options import (
    ArchOptions,
    DifferentiableOptions,
    PolicyOptions,
    SearchOptions,
    TrialOptions,
)
from lightning_nas.tasks.classification import Classification
from lightning_nas.tasks.language_modelling import LanguageModelling
from lightning_nas.testing.toys import ToySpace
from lightning_nas.training.schedules import OverEpochs

NAMES = list(FILES)
GIVEN = ("space", "task", "table", "seed", "engine", "child", "target")  # by the run, not by the YAML file
EPOCHS = 12


def configured(name: str, *more: str) -> DictConfig:
    return composed(f"strategy={name}", *more)


def plain(value: Any) -> Any:
    """A default in a form that can be compared: partials by function and effective arguments, sequences as tuples."""
    if isinstance(value, OverEpochs):
        return plain(value.of(EPOCHS).schedule), {value.argument: EPOCHS}
    if isinstance(value, partial):
        fixed = {key: plain(item) for key, item in value.keywords.items()}
        own = inspect.signature(value.func).parameters
        return value.func, {key: item for key, item in fixed.items() if item != plain(own[key].default)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()} or None
    return tuple(map(plain, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value


def test_every_public_strategy_has_a_yaml_file() -> None:
    classes = filter(inspect.isclass, (getattr(ln, name) for name in ln.__all__))
    searches = {found for found in classes if issubclass(found, (SearchModule, TrialSearch))}
    made = {s for s in searches if not s.__module__.endswith(".base")}
    assert len(made) > 20
    assert made <= {strategy_class(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_those_of_the_yaml_file(name: str) -> None:
    length = "strategy.stage_epochs" if name == "p_darts" else "trainer.max_epochs"
    more = [] if issubclass(strategy_class(name), TrialSearch) else [f"{length}={EPOCHS}"]
    spelled = instantiate(configured(name, *more).strategy)
    parameters = inspect.signature(spelled.func).parameters
    ours = {key: plain(parameter.default) for key, parameter in parameters.items() if key not in GIVEN}
    theirs = {key: plain(value) for key, value in spelled.keywords.items()}
    if name == "p_darts":
        ours["stage_epochs"] = EPOCHS  # the length of its schedule
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_signatures_show_every_argument_with_annotation_and_default(name: str) -> None:
    cls = strategy_class(name)
    parameters = inspect.signature(cls).parameters
    assert list(parameters)[:3] == ["space", "task", "table"]
    for parameter in parameters.values():
        assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        assert parameter.annotation is not parameter.empty
        assert not isinstance(parameter.annotation, str)
        assert parameter.name == "space" or parameter.default is not parameter.empty
    described = " ".join(f"{base.__doc__}" for base in cls.__mro__ if issubclass(base, SearchModule | TrialSearch))
    assert not [name for name in parameters if f" {name}: " not in described]


@pytest.mark.parametrize("name", NAMES)
def test_a_toy_space_is_all_that_a_constructor_needs(name: str) -> None:
    space = toy_for(strategy_class(name))
    made = strategy_class(name)(space)
    assert isinstance(made.task, Classification)
    assert made.seed == 0
    old = strategy_class(name)(space, Classification(), made.table, seed=3)
    assert old.seed == 3


def test_methods_without_architecture_parameters_refuse_their_options() -> None:
    with pytest.raises(TypeError, match="arch_every"):
        SPOS(ToySpace(), arch_every=2)  # type: ignore[call-arg]
    assert "arch_every" not in inspect.signature(SPOS).parameters


@pytest.mark.parametrize(
    ("options", "cls"),
    [
        (SearchOptions, SearchModule),
        (DifferentiableOptions, DifferentiableSearch),
        (ArchOptions, ENAS),
        (TrialOptions, TrialSearch),
        (PolicyOptions, PolicySearch),
        (NASNetOptions, NASNet),
    ],
)
def test_shared_options_are_annotated_as_in_the_constructor(options: type, cls: type) -> None:
    parameters = inspect.signature(cls).parameters
    for name, annotation in get_type_hints(options, include_extras=True).items():
        assert parameters[name].annotation == annotation, name


def test_text_spaces_are_searched_for_language_modelling() -> None:
    made = strategy_class("darts")(DARTSRNNSpace("tiny", bptt=5, num_classes=20, width=6, steps=2))
    assert vars(made.task) == vars(instantiate(configured("darts", "search_space=darts_rnn_small").task))
    assert isinstance(made.task, LanguageModelling)


@pytest.mark.parametrize(
    ("made", "more"),
    [
        (usual_child(Classification()), ["random"]),
        (usual_child(LanguageModelling()), ["random", "search_space=darts_rnn_small"]),
        (inheriting_child(), ["eas"]),
    ],
)
def test_trials_are_trained_as_the_yaml_files_say(made: Any, more: list[str]) -> None:
    theirs = instantiate(configured(*more).child)
    for name in vars(theirs):
        assert plain(getattr(made, name)) == plain(getattr(theirs, name)), name
