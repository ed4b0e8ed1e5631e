"""DARTS' settings for training the networks that were found (arXiv:1806.09055, appendix and released code)."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from lightning_nas.cli.command import conf_dir


def retrain(name: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
        return compose("config", [f"retrain={name}", "paths.output=x"]).retrain


def rates(settings: DictConfig) -> list[float]:
    """The learning rate of each epoch."""
    optimizer = instantiate(settings.optimizer)([torch.nn.Parameter(torch.zeros(()))])
    scheduler, made = instantiate(settings.scheduler)(optimizer), []
    for _ in range(settings.epochs):
        made.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return made


def test_on_cifar_the_rate_falls_by_a_cosine_to_zero() -> None:
    settings = retrain("darts_cifar")
    falling = rates(settings)
    assert (len(falling), falling[0], falling[300]) == (600, 0.025, pytest.approx(0.0125))
    assert falling[-1] == pytest.approx(0, abs=1e-6)
    assert (settings.batch_size, settings.clip, settings.auxiliary_weight, settings.drop_path) == (96, 5, 0.4, 0.2)
    assert (settings.cutout, settings.label_smoothing, settings.optimizer.weight_decay) == (16, None, 3e-4)


def test_on_imagenet_the_rate_falls_by_three_percent_an_epoch() -> None:
    settings = retrain("darts_imagenet")
    assert rates(settings) == pytest.approx([0.1 * 0.97**epoch for epoch in range(250)])
    assert (settings.batch_size, settings.clip, settings.auxiliary_weight, settings.drop_path) == (128, 5, 0.4, 0)
    assert (settings.cutout, settings.label_smoothing, settings.optimizer.weight_decay) == (0, 0.1, 3e-5)


def test_large_batches_have_a_linear_rate_after_five_warm_up_epochs() -> None:
    settings = retrain("darts_imagenet_large")
    line = [0.5 * (1 - epoch / 250) for epoch in range(250)]
    assert rates(settings) == pytest.approx([*(rate * (i + 1) / 5 for i, rate in enumerate(line[:5])), *line[5:]])
    assert (settings.batch_size, settings.optimizer.weight_decay, settings.label_smoothing) == (1024, 3e-5, 0.1)
