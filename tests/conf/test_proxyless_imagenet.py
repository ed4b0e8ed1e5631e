"""The recipe of ProxylessNAS (arXiv:1812.00332) on ImageNet: its numbers, and the whole of it on a few tiny images."""

import csv
import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from recipes import composed, run_on_imagenet

IMAGES, LOGITS = 1_281_167, 50_000
SHORT = (
    *("search_space.num_classes=3", "search_space.stem=[8,2]", "search_space.first=8", "search_space.mix=32"),
    *("search_space.stages=[[16,2,2],[24,1,2]]", "dataset.arch_fraction=0.2", "latency_table.min_run_time=0.001"),
    *("strategy.arch_warmup_epochs=1", "strategy.arch_every=2", "strategy.weights_scheduler.warmup_epochs=1"),
    "strategy.penalty.scale=1e6",  # so small a network takes microseconds; the logarithm must not be negative
)


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


def test_the_whole_of_it_runs_on_a_folder_in_imagenets_layout(root: Path) -> None:
    folder = root.parent / "run"
    run_on_imagenet(root, folder, "experiment=proxyless_imagenet", *SHORT)
    result = json.loads((folder / "result.json").read_text())
    assert (result["search_space"], result["dataset"], result["kendall_tau"]) == ("proxyless", "imagenet", None)
    assert len(result["architecture"]["choices"]) == 3
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    # the logits rest in epoch 0; ten batches an epoch, every second of them with a step
    assert [row["epoch"] for row in rows if row["arch/loss"]] == ["1"] * 5
