"""A paper's whole setting, composed, and run on next to nothing."""

from pathlib import Path

from commands import Commands
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from lightning_nas.cli.command import conf_dir
from lightning_nas.cli.config.check import check

ON_IMAGENET = (  # on the few of tests/conf/conftest.py
    *("dataset.num_classes=3", "dataset.batch_size=8", "dataset.val_fraction=0.1", "dataset.num_workers=0"),
    *("dataset.image_size=32", "search_space.image_size=32", "trainer.max_epochs=2", "trainer.log_every_n_steps=1"),
    *("strategy.score_batches=1", "retrain.epochs=1", "retrain.batch_size=8", "logger=none", "paths.cache=cache"),
)


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
        ended = start("threads=1", *overrides).wait()
    finally:
        commands.clean()
    assert ended.code == 0, ended.err[-2000:]


def run_on_imagenet(root: Path, folder: Path, *overrides: str, fresh: bool = False) -> None:
    """:func:`run`, shortened, on images of 32 pixels in ImageNet's layout."""
    run(root.parent, f"dataset.root={root}", f"hydra.run.dir={folder}", *ON_IMAGENET, *overrides, fresh=fresh)
