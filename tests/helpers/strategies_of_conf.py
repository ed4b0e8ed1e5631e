"""The strategies that have a YAML file, and configurations that are composed once for all tests of a process."""

from functools import cache
from pathlib import Path

import hydra
import yaml
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from views import NestedToySpace

from lightning_nas.cli.command import conf_dir
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.testing.toys import ToySpace

FILES = {file.stem: file for file in sorted(Path(conf_dir(), "strategy").glob("*.yaml"))}


@cache
def composed(*choices: str) -> DictConfig:
    """The configuration of the run, which nobody may change."""
    with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        config = hydra.compose("config", [*choices, "paths.output=''"])
    OmegaConf.set_readonly(config, True)
    return config


@cache
def strategy_class(name: str) -> type[SearchModule] | type[TrialSearch]:
    """Read from the file alone: to compose a configuration takes too long where tests are only collected."""
    found: type[SearchModule] | type[TrialSearch] = get_class(yaml.safe_load(FILES[name].read_text())["_target_"])
    return found


def toy_for(made: type, layers: int = 2) -> ToySpace:
    """A toy space on which a strategy runs."""
    return (NestedToySpace if getattr(made, "nests", False) else ToySpace)(layers)


SHARING = [name for name in FILES if issubclass(strategy_class(name), SearchModule)]
TRIALS = [name for name in FILES if issubclass(strategy_class(name), TrialSearch)]
