"""Each strategy on each space with a supernet: losses, gradients, answers and scores."""

from functools import cache
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from pytorch_lightning.strategies import SingleDeviceStrategy
from strategies_of_conf import SHARING, composed

from lightning_nas.errors import ConfigError, InputError
from lightning_nas.latency.sources import Macs
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ops.recurrent import Window
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.chains.hardcore import HardCoReSpace
from lightning_nas.spaces.chains.mobile import MobileSpace
from lightning_nas.spaces.chains.proxyless import ProxylessNASSpace
from lightning_nas.spaces.chains.spos_shufflenet import ShuffleNetSpace
from lightning_nas.spaces.chains.tiny import TinySpace
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.elastic.attentive_nas import AttentiveNASSpace
from lightning_nas.spaces.elastic.ofa_mbv3 import OFAMobileNetV3Space
from lightning_nas.spaces.enas.macro import ENASMacroSpace
from lightning_nas.spaces.enas.micro import ENASMicroSpace
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.spaces.recurrent.enas import ENASRNNSpace
from lightning_nas.spaces.transformers.autoformer import AutoFormerSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.tasks.classification import Classification
from lightning_nas.tasks.language_modelling import LanguageModelling
from lightning_nas.training.seeding import seeded

SIZES: dict[str, Any] = {"image_size": 8, "in_channels": 1, "num_classes": 4}


@cache
def space_called(name: str) -> WeightSharingSpace:
    if name == "fbnet":
        return FBNetSpace(**SIZES, stem=(8, 1), stages=[(8, 1, 1), (16, 2, 2)], head=16)
    if name == "darts":
        return DARTSSpace(**SIZES, cells=3, channels=4, evaluation=None)
    if name == "proxyless":
        return ProxylessNASSpace(**SIZES, stem=(8, 1), first=8, stages=[(8, 2, 1), (16, 2, 2)], mix=16)
    if name == "hardcore":
        return HardCoReSpace(**SIZES, stem=(8, 1), first=8, stages=[(8, 3, 2)], relu_stages=0, mix=16, features=16)
    if name == "attentive_nas":
        stages = [((8, 16), (1, 2), (3, 5), (1,), 1, False), ((8, 16), (1,), (3,), (2, 3), 2, True)]
        return AttentiveNASSpace(**SIZES, resolutions=[8], stem=[8], stages=stages, mix=[16], spare_shortcuts=False)
    if name == "ofa_mbv3":
        elastic = {"depths": (1, 2), "kernels": (3, 5), "expansions": (2, 3)}
        return OFAMobileNetV3Space(**SIZES, resolutions=[8], **elastic, stem=8, stages=[(8, 2, True, "relu")], mix=16)
    if name == "tiny":
        return TinySpace(**SIZES, channels=8)
    if name == "autoformer":
        sizes = {"embeds": (8, 12), "heads": (1, 2), "ratios": (1.5, 2.0), "depths": (1, 2)}
        return AutoFormerSpace("autoformer", **SIZES, **sizes, head_dim=8, patch=4)
    if name == "mobile":
        return MobileSpace(**SIZES, backbone="small")
    if name == "spos_shufflenet":
        stages = [(8, 1, 1), (16, 1, 2)]
        return ShuffleNetSpace(**SIZES, stem=(8, 1), stages=stages, mix=16, channels=(0.5, 1.5))
    if name == "enas_micro":
        return ENASMicroSpace(**SIZES, layers=1, nodes=2, channels=4)
    if name == "enas_macro":
        return ENASMacroSpace(**SIZES, layers=3, channels=4)
    if name == "enas_rnn":
        return ENASRNNSpace(bptt=5, num_classes=11, width=8, nodes=4)
    return NASBench201Space(**SIZES, channels=4, cells=(1, 1))


@cache
def macs_of(name: str) -> LatencyTable:
    return Macs()(space_called(name))


SPACES = (
    *("fbnet", "darts", "nasbench201", "proxyless", "mobile", "spos_shufflenet"),
    *("enas_micro", "enas_macro", "enas_rnn", "hardcore", "tiny", "attentive_nas", "ofa_mbv3", "autoformer"),
)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("strategy", SHARING)
def test_a_strategy_searches_a_space(strategy: str, space: str) -> None:
    built = space_called(space)
    with seeded(0, "supernet"):
        task = Classification() if built.input_dtype.is_floating_point else LanguageModelling()
        make = instantiate(composed(f"strategy={strategy}").strategy)
        if (make.func.mixes and not built.mixes) or (make.func.nests and not built.nests):
            with pytest.raises((InputError, ConfigError), match=r"are slices of one weight|are not parts of a largest"):
                make(built, task, macs_of(space), seed=0)
            return
        module: SearchModule = make(built, task, macs_of(space), seed=0)
    module._trainer, module._fabric = Clock, None  # type: ignore[assignment]
    x = built.example(4, torch.Generator().manual_seed(0))
    batch = (x, torch.arange(4)) if x.is_floating_point() else (Window(x), x)
    module.weights_loss(batch).backward()
    reached = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.weight_parameters()]
    assert any(reached)
    if module.steps_architecture:
        module.zero_grad()
        module.arch_loss(batch).backward()
        assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.arch_parameters())
    for architecture in (module.derive(), module.sample(torch.Generator().manual_seed(0))):
        assert built.validate(architecture) == architecture
        score = module.score(architecture, ([(x, batch[1])], [(x, batch[1])]))
        assert 0 <= score <= 1 or not x.is_floating_point()


class Clock:
    """What strategies ask a trainer for."""

    current_epoch, max_epochs, log_every_n_steps = 0, 12, 50
    strategy = SingleDeviceStrategy("cpu")
