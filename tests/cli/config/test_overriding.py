"""Overrides of what a configuration takes from elsewhere: each value below an interpolated node, in every way."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from lightning_nas.cli.config.composing import guarded
from lightning_nas.cli.config.plain import join
from lightning_nas.cli.presets import conf_dir

WHOLE = {
    "strategy=evolution": {"child.optimizer"},
    "strategy=fbnet": {"callbacks.rank_check.truth.optimizer"},
    "experiment=ranking_hypothesis": {"ranking.optimizer"},
}
SGD = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "momentum": 0.9}
SMALL = {
    "trusted_modules": [],
    "retrain": {"optimizer": SGD},
    "child": {"optimizer": "${retrain.optimizer}"},
    "ranking": {"optimizer": "${retrain.optimizer}", "several": ["${retrain}"]},
}


def composed(folder: Path, *overrides: str, resolve: bool = True) -> Any:
    """The configuration as plain values."""
    with guarded(), initialize_config_dir(str(folder), version_base="1.3"):
        return OmegaConf.to_container(compose("config", [*overrides]), resolve=resolve)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration that composes quickly."""
    folder = tmp_path_factory.mktemp("conf")
    OmegaConf.save(OmegaConf.create(SMALL), folder / "config.yaml")
    return folder


def interpolated(written: Any, resolved: Any, key: str = "") -> dict[str, Any]:
    """Each node that is written as an interpolation, with what it stands for."""
    if isinstance(written, str) and "${" in written:
        return {key: resolved}
    pairs = written.items() if isinstance(written, dict) else ()
    return {k: v for name, value in pairs for k, v in interpolated(value, resolved[name], join(key, name)).items()}


def leaves(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {key: value}
    return {k: v for name, item in value.items() for k, v in leaves(item, join(key, name)).items()}


@pytest.mark.parametrize("choice", WHOLE)
def test_each_value_of_an_interpolated_node_can_be_overridden(choice: str) -> None:
    conf, place = Path(conf_dir()), "paths.output=x"
    before = composed(conf, choice, place)
    nodes = interpolated(composed(conf, choice, place, resolve=False), before)
    assert {key for key, value in nodes.items() if isinstance(value, dict)} == WHOLE[choice]
    values = {key: value for node, standing in nodes.items() for key, value in leaves(standing, node).items()}
    asked = {key: not old if isinstance(old, bool) else 7 for key, old in values.items() if "_target_" not in key}
    after = composed(conf, choice, place, *(f"{key}={str(value).lower()}" for key, value in asked.items()))
    for key, value in asked.items():
        assert leaves(after, "")[key] == value, key
    assert after["retrain"]["optimizer"] == before["retrain"]["optimizer"]


@pytest.mark.parametrize("order", [1, -1])
def test_what_a_node_stands_for_is_overridden_before_it_is_copied(small: Path, order: int) -> None:
    said = ["child.optimizer.lr=0.05", "retrain.optimizer.momentum=0.8", "+retrain.optimizer.dampening=0.1"]
    after = composed(small, *said[::order])
    changed = {**SGD, "momentum": 0.8, "dampening": 0.1}
    assert after["retrain"]["optimizer"] == after["ranking"]["optimizer"] == changed
    assert after["child"]["optimizer"] == {**changed, "lr": 0.05}


@pytest.mark.parametrize("order", [1, -1])
def test_a_node_that_stands_for_one_that_stands_for_another(small: Path, order: int) -> None:
    said = ["ranking.optimizer=${child.optimizer}", "child.optimizer.lr=0.2", "ranking.optimizer.momentum=0.3"]
    after = composed(small, *said[::order])
    assert after["child"]["optimizer"] == {**SGD, "lr": 0.2}
    assert after["ranking"]["optimizer"] == {**SGD, "lr": 0.2, "momentum": 0.3}


ADAM = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1}
WAYS = {
    "~child.optimizer.momentum": {"momentum": ...},
    "~child.optimizer.momentum=0.9": {"momentum": ...},
    "+child.optimizer.dampening=0.1": {"dampening": 0.1},
    "++child.optimizer.dampening=0.1": {"dampening": 0.1},
    "++child.optimizer.lr=0.2": {"lr": 0.2},
    "child.optimizer={lr: 0.2}": {"lr": 0.2},
    "+child.optimizer={dampening: 0.2}": {"dampening": 0.2},
    "child={optimizer: {lr: 0.2}}": {"lr": 0.2},
    "child.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 1}": {**ADAM, "momentum": ...},
}


@pytest.mark.parametrize("override", WAYS)
def test_every_form_of_override_leaves_what_the_node_stands_for(small: Path, override: str) -> None:
    after = composed(small, override)
    assert after["child"]["optimizer"] == {k: v for k, v in {**SGD, **WAYS[override]}.items() if v is not ...}
    assert after["retrain"]["optimizer"] == after["ranking"]["optimizer"] == SGD


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("child.optimizer.dampening=0.1", "Could not override"),
        ("~child.optimizer.dampening", "does not exist"),
        ("+child.optimizer.lr=0.1", "Either remove"),
        ("child.optimizer.lr.x=0.1", "Could not override"),
        ("child.nothing.x.y=0.1", "Could not override"),
    ],
)
def test_hydra_refuses_as_it_does_elsewhere(small: Path, override: str, said: str) -> None:
    with pytest.raises(ConfigCompositionException, match=said):
        composed(small, override)


@pytest.mark.parametrize("node", ["${child.optimizer}", "${ranking.optimizer}", "${nothing.there}"])
def test_a_node_that_stands_for_nothing_is_refused(small: Path, node: str) -> None:
    with pytest.raises(ConfigCompositionException, match="Could not override"):
        composed(small, "ranking.optimizer=${child.optimizer}", f"child.optimizer={node}", "child.optimizer.lr=3")


def test_a_node_in_a_list_gets_its_own_copy_too(small: Path) -> None:
    after = composed(small, "ranking.several.0.optimizer.lr=3")
    assert after["ranking"]["several"] == [{"optimizer": {**SGD, "lr": 3}}]
    assert after["retrain"]["optimizer"] == SGD
