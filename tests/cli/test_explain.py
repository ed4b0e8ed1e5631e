"""The explanation of an option equals the configuration, the constructor and the page of the method."""

import contextlib
import io
import re
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from commands import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import nn

import lightning_nas as ln
from lightning_nas.cli import option_table
from lightning_nas.cli.command import conf_dir
from lightning_nas.cli.explain import asked_for, class_of, main, paper_experiment
from lightning_nas.cli.options import documented
from lightning_nas.cli.presets import content, groups, names
from lightning_nas.errors import ConfigError, InputError
from lightning_nas.strategies.base import SearchModule

STRATEGIES = names("strategy")
PAGES = ROOT / "docs" / "methods"
LINE = re.compile(r"^([a-z]\w*(?:\.\w+)*)  +(\S.*?)  +(\S.*?)  +(\S.*)$", re.MULTILINE)


@cache
def explained(text: str, width: int = option_table.WIDTH) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), mock.patch.object(option_table, "WIDTH", width):
        main([text])
    return out.getvalue()


def rows(text: str) -> dict[str, list[str]]:
    """Default, paper's value and range of the options whose cells need one line each."""
    table = text.partition(" legal\n")[2].partition("\n\n")[0]
    return {match[1]: [match[2], match[3], match[4]] for match in LINE.finditer(table)}


@cache
def composed(*overrides: str) -> Any:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose("config", ["paths.output=''", *overrides])


def same(shown: str, value: Any) -> bool:
    read = yaml.safe_load(shown)
    if isinstance(value, float) and isinstance(read, str):
        read = float(read)  # 1e-05 is a text in YAML
    return bool(read == value)


def written(config: DictConfig, key: str) -> Any:
    """The value of a strategy's key, null included; "-" where there is no such key."""
    node: Any = OmegaConf.to_container(config.strategy, resolve=True)
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            return "-"
        node = node[name]
    return node


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_paper_is_the_experiment_of_the_methods_page(strategy: str) -> None:
    page = (PAGES / f"{strategy}.md").read_text(encoding="utf-8")
    named = re.findall(r"the paper \(`experiment=(\w+)`\)", page)
    assert [paper_experiment(strategy) or "none"] == (named or ["none"])


@pytest.mark.parametrize("strategy", ["fbnet", "darts", "spos", "random"])
def test_defaults_and_paper_values_are_those_of_the_configuration(strategy: str) -> None:
    text = explained(f"strategy={strategy}", 200)  # no cell is wrapped
    here, paper = composed(f"strategy={strategy}"), composed(f"experiment={paper_experiment(strategy)}")
    found = rows(text)
    assert len(found) > 6
    for key, (default, papers, _) in found.items():
        for config, shown in ((here, default), (paper, papers)):
            value = written(config, key)
            if isinstance(value, dict):
                assert shown == value["_target_"].rpartition(".")[2]
            elif isinstance(value, str):
                assert shown == value
            else:
                assert same(shown, value), (key, shown, value)
    keys = {str(key) for key in here.strategy if not str(key).startswith("_")}
    assert keys <= set(re.findall(r"^(\w+)", text.partition("options, set as")[2], re.MULTILINE))


def test_a_strategy_is_explained_whole() -> None:
    text = explained("strategy=fbnet")
    assert text.startswith("strategy=fbnet  (lightning_nas.strategies.differentiable.fbnet.FBNet)\n")
    assert "https://arxiv.org/abs/1812.03443" in text
    assert "docs/methods/fbnet.md" in text
    assert "lightning-nas run experiment=fbnet_imagenet" in text
    found = rows(text)
    assert found["temperature"] == ["5.0", "5.0", "float >= 0.01"]
    assert found["arch_warmup_epochs"] == ["2", "10", "int >= 0"]
    assert found["weights_optimizer.lr"] == ["0.1", "0.1", "float >= 0"]
    assert max(map(len, text.splitlines())) <= 80


def test_every_option_of_ours_has_a_meaning() -> None:
    lines = explained("strategy=fbnet").partition("options, set as")[2].partition("\n\n")[0].splitlines()[2:]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if re.match(r"\w+  ", line):  # a cell that is wrapped goes on far to the right
            assert following.startswith("    "), line


def test_strategies_that_share_weights_need_a_supernet() -> None:
    go, others = explained("strategy=darts").split("search spaces that do not")
    go = go.partition("search spaces that go with it")[2]
    assert {"darts_small", "fbnet_small", "enas_rnn"} <= set(re.findall(r"\w+", go))
    assert {"nasnet_small", "mnasnet_small", "eas"} <= set(re.findall(r"\w+", others))
    assert "search spaces that go with it: all" in explained("strategy=evolution")
    text = explained("search_space=mnasnet_small")
    go, others = text.split("strategies that do not")
    assert "evolution" in go.partition("strategies that go with it")[2]
    assert "fbnet" in others
    go, others = explained("search_space=fbnet_small").split("strategies that do not")
    assert "pc_darts" in go.partition("strategies that go with it")[2]
    assert others.partition("one)")[2].split() == ["attentive,", "bignas,", "ofa"]


def test_strategies_that_mix_in_their_own_way_need_separate_options() -> None:
    """Told are those that refuse such a space when they are made."""
    refusing = set()
    space = ln.FromModel(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), (1, 16))
    for name in STRATEGIES:
        made = class_of(content("strategy", name))
        if made is not None and issubclass(made, SearchModule):
            try:
                made(space)
            except InputError:
                refusing.add(name)
    others = explained("search_space=from_model").split("strategies that do not")[1].partition("weights)")[2]
    assert set(re.findall(r"\w+", others)) == refusing
    for name in refusing:
        assert "from_model" in explained(f"strategy={name}").split("search spaces that do not")[1]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("search_space=darts_rnn_small", ["data: text", "${dataset.num_classes}"]),
        ("dataset=npz", ["path", "arch_fraction", "lightning-nas run dataset=npz"]),
        ("task=language_modelling", ["reward_scale", "80.0"]),
        ("latency_table=measured", ["min_run_time", "memory_format"]),
        ("engine=ray", ["patience_minutes", "int >= 1 and <= 1024 or null"]),
        ("experiment=fbnet_imagenet", ["search_space=fbnet", "dataset.search_classes", "null", "100", "1812.03443"]),
        ("rank_check.truth=stand_alone", ["epochs", "limit_train_batches"]),
        ("trainer=default", ["max_epochs", "12"]),
        ("proxy=zen", ["2102.01063", "repeats", "child.proxy.KEY=VALUE"]),
    ],
)
def test_every_sort_of_option_can_be_explained(option: str, words: list[str]) -> None:
    text = explained(option)
    for word in words:
        assert word in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["strategy=fbnett"], ["no such option", "did you mean 'fbnet'?"]),
        (["straegy=fbnet"], ["no such group", "did you mean 'strategy'?"]),
        (["gdas"], ["did you mean strategy=gdas?"]),
        (["nothing"], ["legal: GROUP=NAME"]),
        ([], ["strategy=fbnet", "got 0"]),
        (["a=b", "c=d"], ["got 2"]),
    ],
)
def test_an_unknown_option_is_refused_with_a_hint(arguments: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        main(arguments)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_groups_are_the_folders_of_the_configuration() -> None:
    folders = {path.name for path in Path(conf_dir()).iterdir() if path.is_dir()}
    assert set(groups()) == folders - {"hydra", "local", "__pycache__"}
    assert asked_for("strategy=fbnet") == ("strategy", "fbnet")


def test_arguments_are_read_from_a_docstring_of_another_library() -> None:
    assert "momentum factor" in documented(__import__("torch").optim.SGD.__doc__)["momentum"]
