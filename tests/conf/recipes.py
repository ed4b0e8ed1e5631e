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
ON_IMAGENET = (  # on the few of tests/conf/conftest.py
    *("dataset.num_classes=3", "dataset.batch_size=8", "dataset.val_fraction=0.1", "dataset.num_workers=0"),
    *("dataset.image_size=32", "search_space.image_size=32", "trainer.max_epochs=2", "trainer.log_every_n_steps=1"),
    *("strategy.score_batches=1", "retrain.epochs=1", "retrain.batch_size=8", "logger=none", "paths.cache=cache"),
    "threads=1",
)


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


def run_on_imagenet(root: Path, folder: Path, *overrides: str) -> None:
    """:func:`run`, shortened, on images of 32 pixels in ImageNet's layout."""
    run(root.parent, f"dataset.root={root}", f"hydra.run.dir={folder}", *ON_IMAGENET, *overrides)
