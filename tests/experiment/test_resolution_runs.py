"""Searches of every family in a space whose images have several sizes."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torchvision.transforms.functional import resize

import lightning_nas as ln
from lightning_nas.latency.macs import count_macs
from lightning_nas.spaces.own.built import FromBuilder
from lightning_nas.strategies.multi_trial.proxy_search import ProxySearch
from lightning_nas.strategies.penalties import Costs

RULES = [{"match": "*", "width": {"ratios": [0.5, 1]}, "depth": True}, {"resolution": [4, 6]}]
SHORT = {"max_epochs": 1, "limit_train_batches": 3, "limit_val_batches": 1}
QUIET = {"callbacks": "none", "logger": "none", "latency_table": "macs", "trainer": SHORT}
FORMATS = {"formats": ["torch", "onnx", "py", "safetensors"]}


def net() -> nn.Module:
    block = torchvision.models.resnet.BasicBlock
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), block(16, 16)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )


def space() -> FromBuilder:
    return FromBuilder(net, RULES, image_size=8, in_channels=1, num_classes=10)


@pytest.mark.parametrize(
    "strategy",
    [
        partial(ln.SPOS, sampling="sandwich", generations=1, population=4, parents=2, score_batches=1),
        partial(ln.RandomWS, candidates=2, score_batches=1),
        partial(ln.ENAS, candidates=2, score_batches=1, arch_warmup_epochs=0),
        partial(ln.FBNet, arch_warmup_epochs=0),
        partial(ln.DARTS, arch_warmup_epochs=0),
        partial(ln.GDAS, arch_warmup_epochs=0),
        partial(ln.RegularizedEvolution, trials=4, population=2, sample=2),
        partial(ProxySearch, trials=4, population=2, sample=2),
    ],
    ids=lambda strategy: strategy.func.__name__,
)
def test_a_search_keeps_its_target(strategy: Any, tmp_path: Path) -> None:
    made = space()
    least, most = (count_macs(made.network(a), (1, 8, 8)) for a in (made.smallest, made.largest))
    more: dict[str, object] = {"engine": "serial"} if issubclass(strategy.func, ln.TrialSearch) else {}
    more |= {"child": "proxy"} if strategy.func is ProxySearch else {}
    run = ln.Run(tmp_path, space=made, strategy=strategy, **QUIET, **more, target_macs=(least + most) / 4)
    assert count_macs(made.network(run.search()), (1, 8, 8)) <= (least + most) / 4


def test_the_cheapest_architecture_counts_what_is_decided_together() -> None:
    made = space()
    table = ln.LatencyTable.macs(made)
    draws = [made.sample(torch.Generator().manual_seed(number)) for number in range(50)]
    least = min(count_macs(made.network(a), (1, 8, 8)) for a in (made.smallest, *draws))
    assert 0.9 * least < Costs.of(made, table).cheapest <= least


def test_a_narrow_network_at_a_low_resolution_leaves_in_every_format(tmp_path: Path) -> None:
    made = space()
    run = ln.Run(tmp_path, space=made, strategy="spos", stages=["retrain", "export"], **{**QUIET, "export": FORMATS})
    network = run.retrain("smallest").eval()
    run.report()
    differences = {name: said["difference"] for name, said in run.export()["files"].items()}
    bars = {"network.pt2": 1e-6, "network.onnx": 1e-5, "network.py": 0, "model.safetensors": 0}
    assert differences.keys() == bars.keys()
    assert all(difference <= bars[name] for name, difference in differences.items())
    loaded = ln.load(tmp_path, space=space())
    x = torch.rand(3, 1, 8, 8)
    whole = nn.Sequential(*network)  # the layers without what resizes
    assert torch.equal(loaded(x), whole(resize(x, [4, 4], antialias=True)))
