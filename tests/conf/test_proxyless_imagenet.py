"""The recipe of ProxylessNAS (arXiv:1812.00332) on ImageNet: its numbers."""

import math
from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from recipes import composed

IMAGES, LOGITS = 1_281_167, 50_000


def test_the_search_has_the_papers_numbers() -> None:
    config = composed("experiment=proxyless_imagenet", "dataset.root=there")
    data, space, strategy = config.dataset, config.search_space, config.strategy
    assert (space.name, space.image_size, space.num_classes, space.mix) == ("proxyless", 224, 1000, 1280)
    assert data.arch_fraction * (1 - data.val_fraction) * IMAGES == pytest.approx(LOGITS, rel=1e-4)
    assert (config.trainer.max_epochs, data.batch_size, config.task.label_smoothing) == (160, 256, 0.1)
    assert (strategy["update"], strategy.alternate) == ("full", "batch")
    assert (strategy.arch_every, strategy.arch_warmup_epochs) == (5, 41)
    weights, arch, penalty = strategy.weights_optimizer, strategy.arch_optimizer, strategy.penalty
    assert (weights.lr, weights.momentum, weights.nesterov, weights.weight_decay) == (0.025, 0.9, True, 4e-5)
    assert (arch._target_, arch.lr, list(arch.betas), arch.weight_decay) == ("torch.optim.Adam", 1e-3, [0, 0.999], 0)
    assert penalty._target_.endswith(".MulLog")
    assert (penalty.alpha, penalty.beta, penalty.scale) == (0.2, 0.3, 1.0)


def test_the_rate_falls_twice() -> None:
    config = composed("experiment=proxyless_imagenet", "dataset.root=there").strategy
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.weights_optimizer.lr)
    scheduler, rates = instantiate(config.weights_scheduler)(optimizer), []
    assert isinstance(instantiate(config.weights_scheduler), partial)
    for _ in range(160):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[:40] == pytest.approx([0.05 * (1 + math.cos(math.pi * i / 40)) / 2 for i in range(40)])
    assert rates[40:] == pytest.approx([0.025 * (1 + math.cos(math.pi * i / 120)) / 2 for i in range(120)])


def test_the_other_updates_are_one_override_away() -> None:
    two = composed(
        "experiment=proxyless_imagenet", "dataset.root=there", "strategy.update=two_path", "strategy/penalty=add_linear"
    )
    assert two.strategy.penalty._target_.endswith(".AddLinear")
