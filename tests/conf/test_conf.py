"""Every YAML of conf/ composes into a legal configuration whose parts can be made."""

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Unpack, get_args, get_origin, get_type_hints

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from lightning_nas.cli.command import conf_dir
from lightning_nas.cli.config.check import check
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.testing.multi_trial import ToyEngine

CONF = Path(conf_dir())
OPTIONS = sorted(str(file.relative_to(CONF).with_suffix("")) for file in CONF.glob("*/**/*.yaml"))
# parts of other options
PARTLY = ("local/", "trainer/length/", "callbacks/default/", "callbacks/fast/", "debug/steps/", "debug/child/")
CHOICES = ["=".join(option.rsplit("/", 1)) for option in OPTIONS if not option.startswith(PARTLY)]
# what else to choose where a group is a part of some options
NEEDS = {
    "strategy/penalty": ["strategy=proxyless"],
    "strategy/controller": ["strategy=enas"],
    "strategy/weights_scheduler": ["strategy=enas"],
    "engine": ["strategy=random"],
    "child": ["strategy=random"],
    "proxy": ["strategy=proxy"],
    "engine/budget": ["strategy=random", "engine=table", "search_space=nasbench201"],
    "engine/lookup": ["strategy=random", "engine=table", "search_space=nasbench201"],
}
PARTS = ("search_space", "strategy", "dataset", "latency_table", "task", "trainer", "callbacks", "logger", "retrain")
PARTS = (*PARTS, "engine", "child")

# Arguments no YAML spells: the run gives them, or the data set has a part of its own and they say nothing.
GIVEN_BY_THE_RUN = {
    "target",
    "space",
    "task",
    "table",
    "seed",
    "optimizer",
    "generator",
    "job",
    "worker",
    "engine",
    "child",
}
GIVEN_BY_THE_RUN |= {"stage", "number", "of", "mix", "arch"}
ANOTHER_WAY = {"input_shape"}  # from Python; a YAML has image_size and in_channels, or bptt
OWN_TEST = {f"lightning_nas.data.vision.{name}" for name in ("CIFAR10", "CIFAR100", "FashionMNIST")}
OWN_TEST |= {"lightning_nas.data.folder.ImageNet", "lightning_nas.data.tiny.TinyImages"}
SIZES = {"image_size": 32, "channels": 3, "num_classes": 10}  # what a data set may leave to its files

Compose = Callable[..., DictConfig]


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Compose]:
    """The configuration of the run under some overrides."""
    paths = [f"paths.output={tmp_path}/run", f"paths.cache={tmp_path}/cache"]
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield lambda *overrides, name="config": compose(name, overrides=[*paths, *overrides])


def test_all_groups_are_known_to_these_tests() -> None:
    others = {"rank_check.truth", "experiment", "debug", "hydra", "paths"}
    assert {choice.partition("=")[0] for choice in CHOICES} == {*PARTS, *NEEDS, *others}


@pytest.mark.parametrize("choice", ["seed=0", *CHOICES])
def test_it_composes_passes_the_check_and_every_node_can_be_made(choice: str, composed: Compose) -> None:
    text = ["search_space=darts_rnn_small"] if choice == "dataset=text" else []
    needs = ["strategy=random"] if choice == "debug=trials" else NEEDS.get(choice.partition("=")[0], [])
    config = composed(*needs, choice, *text)
    check(config)
    for size, value in SIZES.items():
        if config.dataset.get(size, value) is None:
            config.dataset[size] = value
    for part in PARTS:
        for node in _nodes(config[part]):
            made = instantiate(node)
            expected = get_object(node._target_)
            if node.get("_partial_"):
                assert made.func is expected
            else:
                assert type(made) is expected


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice.startswith("search_space=")])
def test_the_latency_command_composes_with_each_space(choice: str, composed: Compose) -> None:
    config = composed(choice, name="latency")
    config.dataset.num_classes = config.dataset.num_classes or 10
    assert instantiate(config.search_space).operations()


@pytest.mark.parametrize("option", OPTIONS)
def test_a_yaml_spells_every_argument_of_our_constructors(option: str) -> None:
    content = yaml.safe_load((CONF / f"{option}.yaml").read_text()) or {}
    parts = {name for default in content.pop("defaults", []) if isinstance(default, dict) for name in default}
    for node in _nodes(content):
        target = node["_target_"]
        if target.startswith("lightning_nas."):
            silent = GIVEN_BY_THE_RUN | ({"test_fraction"} if target in OWN_TEST else set())
            assert _arguments(get_class(target)) - silent - ANOTHER_WAY <= {*node, *parts}, target


def test_the_trainer_accepts_what_its_yaml_says(composed: Compose) -> None:
    config = composed("trainer.max_epochs=7", "trainer.log_every_n_steps=3").trainer
    trainer = instantiate(config)(logger=False)
    assert (trainer.max_epochs, trainer.log_every_n_steps, trainer.loggers) == (7, 3, [])


def test_a_strategy_can_be_made_on_its_own_space(composed: Compose) -> None:
    built: dict[str, tuple[SearchSpace, LatencyTable]] = {}  # many strategies have one space
    for choice in (choice for choice in CHOICES if choice.startswith("strategy=")):
        config = composed(choice, "latency_table=macs")
        spelled = OmegaConf.to_yaml(config.search_space, resolve=True)
        if spelled not in built:
            space = instantiate(config.search_space)
            built[spelled] = space, instantiate(config.latency_table)(space)
        (space, table), task = built[spelled], instantiate(config.task)
        engine = {"engine": ToyEngine()} if config.engine else {}
        module = instantiate(config.strategy)(space, task, table, seed=config.seed, **engine)
        assert module.space is space


def test_search_space_fbnet_has_the_papers_size(composed: Compose) -> None:
    space = instantiate(composed("search_space=fbnet").search_space)
    assert [len(decision.options) for decision in space.decisions] == [9] * 22
    assert math.prod(len(decision.options) for decision in space.decisions) == 984_770_902_183_611_232_881
    assert (space.input_shape, space.num_classes) == ((3, 224, 224), 1000)


@pytest.mark.parametrize(
    ("overrides", "space", "table"),
    [
        ([], "fbnet_small", "Measured"),
        (["strategy=fbnet"], "fbnet_small", "Measured"),
        (["strategy=fbnet", "search_space=fbnet"], "fbnet", "Measured"),
        (["search_space=fbnet", "strategy=fbnet"], "fbnet", "Measured"),
        (["strategy=fbnet", "latency_table=macs"], "fbnet_small", "Macs"),
        (["experiment=fbnet_imagenet"], "fbnet", "Measured"),
        (["experiment=fbnet_imagenet", "search_space=fbnet_hwnas"], "fbnet_hwnas", "Measured"),
    ],
)
def test_a_strategy_brings_its_space_and_table_and_the_command_line_wins(
    overrides: list[str], space: str, table: str, composed: Compose
) -> None:
    config = composed(*overrides)
    assert config.search_space.name == space
    assert config.latency_table._target_.rpartition(".")[2] == table


def test_sizes_come_from_the_data_set_where_the_space_is_for_any(composed: Compose) -> None:
    space = instantiate(composed("search_space=fbnet_small", "dataset=cifar100").search_space)
    assert (space.input_shape, space.num_classes) == ((3, 32, 32), 100)


@pytest.mark.parametrize(
    ("overrides", "truth"),
    [
        ([], "StandAlone"),
        (["rank_check.truth=table"], "TabulatedTruth"),
        (["debug=fast", "rank_check.truth=table"], "TabulatedTruth"),
        (["rank_check.truth=table", "callbacks=fast"], "TabulatedTruth"),
        (["experiment=fbnet_imagenet", "callbacks=default", "rank_check.truth=table"], "TabulatedTruth"),
    ],
)
def test_the_truth_of_a_rank_check_is_a_choice_of_its_own(overrides: list[str], truth: str, composed: Compose) -> None:
    config = composed(*overrides)
    check(config)
    assert config.callbacks.rank_check.truth._target_.rpartition(".")[2] == truth
    assert "rank_check" not in config


def test_debug_trains_a_truth_as_short_as_it_can(composed: Compose) -> None:
    truth = composed("debug=fast").callbacks.rank_check.truth
    assert (truth.epochs, truth.limit_train_batches) == (1, 3)
    assert composed("callbacks.rank_check.truth.epochs=7").callbacks.rank_check.truth.scheduler.T_max == 7


@pytest.mark.parametrize("choice", ["dataset=text", "search_space=darts_rnn_small"])
def test_text_brings_its_task_and_its_retraining(choice: str, composed: Compose) -> None:
    config = composed(choice)
    names = [node._target_.rpartition(".")[2] for node in (config.dataset, config.task, config.retrain.optimizer)]
    assert names == ["TextData", "LanguageModelling", "ASGD"]
    assert composed(choice, "task=classification").task._target_.endswith("Classification")


def test_text_shortens_the_trainer_of_warm_restarts(composed: Compose) -> None:
    text = ["strategy=enas", "search_space=enas_rnn_small"]
    assert composed("strategy=enas").trainer.max_epochs == 56
    assert composed(*text).trainer.max_epochs == 24
    assert composed(*text, "trainer=default").trainer.max_epochs == 12
    assert composed(*text, "trainer.max_epochs=7").trainer.max_epochs == 7


def test_debug_wins_over_an_experiment(composed: Compose) -> None:
    config = composed("experiment=fbnet_imagenet", "debug=fast", "callbacks=default")
    fast, steps = (OmegaConf.load(CONF / "debug" / name) for name in ("fast.yaml", "steps/fast_none.yaml"))
    assert config.trainer.max_epochs == steps.trainer.max_epochs
    assert config.retrain.epochs == fast.retrain.epochs


def _nodes(section: Any) -> Iterator[Any]:
    """What Hydra makes an object of, from the outside in."""
    if isinstance(section, dict | DictConfig):
        if "_target_" in section:
            yield section
        for name in section:
            yield from _nodes(section[name])


def _arguments(made: type) -> set[str]:
    """Names the constructor can be given, also those it hands on to its bases, less those it fills in itself."""
    names, filled, handed = set[str](), set[str](), list[set[str]]()
    for base in made.__mro__:
        if "__init__" in vars(base):
            parameters = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]
            own = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - filled
            names |= own.intersection(*handed)
            filled |= _filled(base)
            rest = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
            if not rest:
                break
            annotation = get_type_hints(base.__init__).get(rest[0])  # type: ignore[misc]
            if get_origin(annotation) is Unpack:
                handed.append({*get_type_hints(get_args(annotation)[0]), *_positional(base)})
    return names


def _positional(made: type) -> set[str]:
    """Arguments that a class hands on by their place."""
    calls = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(made))))
    named = [c.args for c in calls if isinstance(c, ast.Call) and ast.unparse(c.func) == "super().__init__"]
    return {ast.unparse(argument) for arguments in named for argument in arguments}


def _filled(made: type) -> set[str]:
    """The arguments by name in ``super().__init__(...)``."""
    if not (inspect.isfunction(vars(made)["__init__"]) and made.__module__.startswith("lightning_nas.")):
        return set()
    calls = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(made))))
    named = [c.keywords for c in calls if isinstance(c, ast.Call) and ast.unparse(c.func) == "super().__init__"]
    return {keyword.arg for keywords in named for keyword in keywords if keyword.arg}
