"""A constructor without arguments does what the YAML of its name does."""

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from lightning_nas.cli.command import conf_dir
from lightning_nas.files import cache_folder

# a choice of the command line, and the node that it configures
NODES = {
    "engine=local": "engine",
    "engine=ray": "engine",
    "engine=serial": "engine",
    "engine=table": "engine",
    "child=default": "child",
    "callbacks=trials": "callbacks.trial_logger",
    "rank_check.truth=stand_alone": "callbacks.rank_check.truth",
    "rank_check.truth=table": "callbacks.rank_check.truth",
    "experiment=ranking_hypothesis": "ranking",
}
NODES |= {f"latency_table={path.stem}": "latency_table" for path in Path(conf_dir()).glob("latency_table/*.yaml")}
CALLBACKS = ("architecture_logger", "rank_check", "search_health")
PAIRS = [*NODES.items(), *(("callbacks=default", f"callbacks.{name}") for name in CALLBACKS)]
PARTS_OF_A_RUN = {"engine": {"job"}}  # arguments that a run adds


@pytest.fixture
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_NAS_CACHE", str(tmp_path))


@pytest.mark.usefixtures("_caches")
@pytest.mark.parametrize(("choice", "key"), PAIRS)
def test_defaults_of_a_constructor_are_those_of_its_yaml(choice: str, key: str) -> None:
    node = _node(choice, key)
    made, parameters = get_class(node.pop("_target_")), inspect.signature(get_class(_node(choice, key)["_target_"]))
    node.pop("_partial_", None)
    given = PARTS_OF_A_RUN.get(key, set())
    defaults = {name: parameter.default for name, parameter in parameters.parameters.items()}
    assert not [name for name, p in parameters.parameters.items() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert [name for name, default in defaults.items() if default is inspect.Parameter.empty] == [*given]
    for name, value in node.items():
        if isinstance(value, dict):
            own = getattr(made(), name)
            assert _comparable(own) == _comparable(instantiate(OmegaConf.create(value))), name
        elif name == "cache_dir":
            assert (defaults[name], str(cache_folder())) == (None, value)
        else:
            assert defaults[name] == value, name


def _node(choice: str, key: str) -> dict[str, Any]:
    # of engine=table, a space with a table sets what goes with it
    more = (
        ["strategy=random", "search_space=fbnet_small"]
        if choice.startswith(("engine=", "child=", "callbacks=trials"))
        else []
    )
    with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
        config = compose("config", overrides=[*more, choice, "paths.output=."])
    node = OmegaConf.to_container(OmegaConf.select(config, key), resolve=True)
    assert isinstance(node, dict)
    return {str(name): value for name, value in node.items()}


def _comparable(made: Any) -> Any:
    return (made.func, made.keywords) if isinstance(made, partial) else type(made)
