"""A paper's whole setting, composed, and run on next to nothing."""

import os
import subprocess
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from lightning_nas.command import conf_dir
from lightning_nas.config.check import check

ROOT = Path(__file__).parents[2]


def composed(*overrides: str) -> DictConfig:
    """The checked configuration."""
    with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
        config = compose("config", overrides=["paths.output=here", *overrides])
    check(config)
    return config


def run(cwd: Path, *overrides: str) -> None:
    """In a process of its own, as a user would; it must end well."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "lightning_nas.run", *overrides]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
