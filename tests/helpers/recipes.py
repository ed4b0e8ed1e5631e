"""A paper's whole setting, composed, and run on next to nothing."""

from pathlib import Path

from commands import Commands
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from lightning_nas.command import conf_dir
from lightning_nas.config.check import check


def composed(*overrides: str) -> DictConfig:
    """The checked configuration."""
    with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
        config = compose("config", overrides=["paths.output=here", *overrides])
    check(config)
    return config


def run(cwd: Path, *overrides: str, fresh: bool = False) -> None:
    """It must end well. ``fresh``: in a process of its own, as a user would; else in a fork."""
    commands = Commands(cwd, cwd / "cache")
    start = commands.process if fresh else commands.fork
    try:
        ended = start("threads=1", *overrides).wait(seconds=300)
    finally:
        commands.clean()
    assert ended.code == 0, ended.err[-2000:]
