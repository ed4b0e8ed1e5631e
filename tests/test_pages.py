"""The pages of docs/ agree with the configuration and the code."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

import lightning_nas
from lightning_nas.cli.command import conf_dir
from lightning_nas.cli.config.check import check
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace

ROOT = Path(__file__).parents[1]
CONF = Path(conf_dir())
INDEX = (ROOT / "docs" / "methods" / "index.md").read_text(encoding="utf-8")
STRATEGIES = sorted(file.stem for file in (CONF / "strategy").glob("*.yaml"))
EXPERIMENTS = {file.stem for file in (CONF / "experiment").glob("*.yaml")}
BY_TRIALS = {file.stem for file in (CONF / "strategy").glob("*.yaml") if "/engine@" in file.read_text(encoding="utf-8")}
LINKED = re.compile(r"^\| \[`(\w+)`\]\((\w+)\.md\) \|.*\| `(\S+)` \|$", re.MULTILINE)


# folders of conf/ that are no groups, or whose presets other presets pick
NOT_FOR_USERS = {"hydra", "local", "paths"}


@cache
def site_methods() -> Any:
    """The build hook that lists the methods on the site."""
    file = ROOT / "docs" / "_tools" / "methods.py"
    spec = importlib.util.spec_from_file_location("site_methods", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def page(strategy: str) -> str:
    return (ROOT / "docs" / "methods" / f"{strategy}.md").read_text(encoding="utf-8")


@cache
def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        config = compose("config", overrides=["paths.output=here", *overrides])
    check(config)
    return config


def own_experiments(strategy: str) -> set[str]:
    """The experiments with the settings of a method's paper; a new method may have none."""
    chosen = f"override /strategy: {strategy}\n"
    return {name for name in EXPERIMENTS if chosen in (CONF / f"experiment/{name}.yaml").read_text(encoding="utf-8")}


def commands(strategy: str) -> list[list[str]]:
    blocks = "".join(re.findall(r"```bash\n(.*?)```", page(strategy), re.DOTALL))
    return [shlex.split(line, comments=True) for line in blocks.splitlines() if line.strip()]


def rows(strategy: str, title: str) -> Iterator[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = page(strategy).partition(f"## {title}\n")[2].partition("\n## ")[0]
    for line in [line for line in section.splitlines() if line.startswith("|")][2:]:
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def value(config: DictConfig, key: str) -> Any:
    found = OmegaConf.select(config, key, throw_on_missing=True)
    return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found


def read(cell: str) -> Any:
    """A setting as YAML writes it; 4e-05 is a number here."""
    found = yaml.safe_load(cell.removesuffix(" (ours)"))
    return float(found) if isinstance(found, str) and re.fullmatch(r"\d+e-?\d+", found) else found


def said(text: str) -> str:
    """What a text says, whatever its mark-up."""
    return " ".join(re.sub(r":math:|[`\\*]", "", text).lower().split())


def test_every_strategy_has_a_page_and_a_row_that_links_to_it() -> None:
    assert sorted(file.stem for file in (ROOT / "docs" / "methods").glob("*.md") if file.stem != "index") == STRATEGIES
    found = sorted(LINKED.findall(site_methods().filled(INDEX, api=False)))
    assert [(name, link) for name, link, _ in found] == [(name, name) for name in STRATEGIES]
    for name, _, file in found:
        assert (ROOT / "lightning_nas" / file).is_file(), name


def test_the_api_documents_every_strategy() -> None:
    page = (ROOT / "docs" / "api" / "strategies.md").read_text(encoding="utf-8")
    targets = re.findall(r"^::: (lightning_nas\.\S+)$", site_methods().filled(page, api=True), re.MULTILINE)
    expected = [
        yaml.safe_load((CONF / "strategy" / f"{name}.yaml").read_text("utf-8"))["_target_"] for name in STRATEGIES
    ]
    assert sorted(targets) == sorted(expected)


def test_choosing_compares_every_strategy() -> None:
    page = (ROOT / "docs" / "guides" / "choosing.md").read_text(encoding="utf-8")
    row = re.compile(r"^\| \[`(\w+)`\]\(\.\./methods/\1\.md\) " + r"\| [^|]*\w[^|]* " * 4 + r"\|$", re.MULTILINE)
    assert sorted(row.findall(site_methods().filled(page, api=False))) == STRATEGIES


def test_the_reference_names_every_preset_of_every_group() -> None:
    pages = "".join((ROOT / "docs" / page).read_text("utf-8") for page in ("reference/groups.md", "spaces/index.md"))
    named = set(re.findall(r"`([\w/.]+)`", pages + site_methods().filled(INDEX, api=False)))
    groups = (
        {str(file.parent.relative_to(CONF)) for file in CONF.glob("*/**/*.yaml")}
        - NOT_FOR_USERS
        - {"engine/budget", "engine/lookup", "trainer/length", "debug/steps", "debug/child"}
        - {"callbacks/default", "callbacks/fast"}
    )
    presets = {file.stem for group in groups for file in (CONF / group).glob("*.yaml")}
    assert named >= presets | groups


def test_there_are_as_many_methods_as_the_first_pages_say() -> None:
    for file in ("README.md", "docs/index.md"):
        [said] = re.findall(r"the methods of more than (\d+) papers", (ROOT / file).read_text(encoding="utf-8"))
        assert len(STRATEGIES) > int(said)


def test_every_space_has_a_row() -> None:
    page = (ROOT / "docs" / "spaces" / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \| .* \| (yes|no) \|$", page, re.MULTILINE)
    said = {name: shares for names, shares in rows for name in re.findall(r"`(\w+)`", names)}
    assert said.keys() == {file.stem for file in (CONF / "search_space").glob("*.yaml")}
    for name, shares in said.items():
        target = yaml.safe_load((CONF / "search_space" / f"{name}.yaml").read_text(encoding="utf-8"))["_target_"]
        assert issubclass(get_class(target), WeightSharingSpace) == (shares == "yes"), name


def test_the_api_reference_holds_every_public_name() -> None:
    pages = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "docs" / "api").glob("*.md"))
    entries = re.findall(r"^::: \S+\.(\w+)$|`ln\.(\w+)", site_methods().filled(pages, api=True), re.MULTILINE)
    assert {name for entry in entries for name in entry} >= set(lightning_nas.__all__) - {"__version__"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_its_commands_compose_and_pass_the_check(strategy: str) -> None:
    first, *others = commands(strategy)
    assert first == ["python", "-m", "lightning_nas.run", f"strategy={strategy}"]
    for start in (first[:3], *(other[:3] for other in others)):
        assert start == ["python", "-m", "lightning_nas.run"]
    for _, _, _, *overrides in (first, *others):
        composed(*overrides)
    run = {word.partition("=")[2] for command in others for word in command if word.startswith("experiment=")}
    assert run & own_experiments(strategy) or not own_experiments(strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_its_experiments_exist_and_are_all_of_the_methods(strategy: str) -> None:
    named = set(re.findall(r"experiment=(\w+)", page(strategy)))
    assert named <= EXPERIMENTS
    assert own_experiments(strategy) <= named


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_its_settings_are_those_of_the_configuration(strategy: str) -> None:
    head = re.search(
        r"^\| setting \| default here \| the paper(?: \(`experiment=(\w+)`\))? \|$", page(strategy), re.MULTILINE
    )
    assert head
    assert head[1] or not own_experiments(strategy)
    here = composed(f"strategy={strategy}")
    told = [(key.strip("`"), read(default), read(papers)) for key, default, papers in rows(strategy, "What runs")]
    assert len(told) > 10
    assert [row[:2] for row in told] == [(key, value(here, key)) for key, *_ in told]
    if head[1]:
        paper = composed(f"experiment={head[1]}")
        assert [row[2] for row in told] == [value(paper, key) for key, *_ in told]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_differs_from_the_paper_as_its_file_says(strategy: str) -> None:
    file = ROOT / "lightning_nas" / Path(*composed(f"strategy={strategy}").strategy._target_.split(".")[1:-1])
    assert f"../../{file.relative_to(ROOT)}.py" in page(strategy)
    docstring = ast.get_docstring(ast.parse(file.with_suffix(".py").read_text(encoding="utf-8")))
    assert docstring
    paragraph = docstring.partition("Differs from the paper:")[2].partition("\n\n")[0]
    section = page(strategy).partition("## What differs from the paper\n")[2].partition("\n## ")[0]
    assert said(paragraph) == said(section)
    [paper] = set(re.findall(r"arXiv:(\d{4}\.\d{5})", docstring.partition("\n\n")[0]))
    assert f"](https://arxiv.org/abs/{paper})" in page(strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_network_it_found_has_the_size_it_tells(strategy: str) -> None:
    measured = dict(rows(strategy, "What was measured here"))
    assert re.match(r"\d\d\.\d\d% of 359 images$", measured["test accuracy"])
    if strategy in BY_TRIALS:
        assert re.match(r"\d+ (trained|scored), the best (reward|accuracy) 0\.\d{3}", measured["trials"])
    else:
        assert re.match(r"-?[01]\.\d{3}, interval -?[01]\.\d\d to -?[01]\.\d\d; ", measured["Kendall's tau"])
    assert "busy machine" in measured["search, retraining"]
    space: SearchSpace = instantiate(composed(f"strategy={strategy}").search_space)
    options = measured["architecture"].strip("`").split()
    choices: dict[str, str] = {}
    for decision in space.decisions:
        if space.options(decision, choices):
            choices[decision.name] = options.pop(0)
    assert not options
    with torch.device("meta"):
        network = space.evaluation().network(space.validate(choices))
        assert f"{count_params(network):,}" == measured["parameters"]
        assert f"{count_macs(network, space.input_shape, space.input_dtype):,}" == measured["multiply-adds"]
