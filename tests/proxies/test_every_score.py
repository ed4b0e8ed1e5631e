"""What holds for every score: the network stays as it was, numbers repeat, and devices agree."""

import math
from copy import deepcopy
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.cli.command import conf_dir
from lightning_nas.errors import InputError
from lightning_nas.proxies import (
    fisher,
    grad_norm,
    grasp,
    jacob_cov,
    logsynflow,
    naswot,
    plain,
    size,
    snip,
    swap,
    synflow,
    zen,
    zico,
)
from lightning_nas.proxies.az_nas import az_nas
from lightning_nas.proxies.base import Loss, Proxy
from lightning_nas.proxies.named import NAMED, ProxyName
from lightning_nas.proxies.named import scores as named_scores

SCORES: dict[str, Proxy] = {
    "params": size.Params(),
    "macs": size.Macs(),
    "depth": size.Depth(),
    "synflow": synflow.Synflow(),
    "logsynflow": logsynflow.LogSynflow(),
    "naswot": naswot.Naswot(),
    "jacob_cov": jacob_cov.JacobCov(),
    "snip": snip.Snip(),
    "grasp": grasp.Grasp(),
    "fisher": fisher.Fisher(),
    "grad_norm": grad_norm.GradNorm(),
    "plain": plain.Plain(),
    "zico": zico.Zico(),
    "zen": zen.Zen(),
    "swap": swap.Swap(),
}


class AZ(Proxy):
    """All four scores of AZ-NAS in one number."""

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return sum(az_nas(network, batch[0], rng))


SCORES["az_nas"] = AZ()


def network() -> nn.Sequential:
    """Convolutions, batch norm, dropout and a ReLU that works in place."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(8, 4),
    )


def batch() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 6, 6, generator=rng), torch.arange(8) % 4


def scored(name: str, net: nn.Module, given: tuple[Tensor, Tensor] | None = None) -> float:
    return SCORES[name](net, given or batch(), F.cross_entropy, torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", SCORES)
def test_it_leaves_the_network_as_it_was(name: str) -> None:
    net = network()
    net[4].eval()
    net[0].weight.requires_grad_(False)
    calls: list[int] = []
    net[3].register_forward_hook(lambda *_: calls.append(1))
    F.cross_entropy(net(batch()[0]), batch()[1]).backward()
    before, random = deepcopy(net), torch.get_rng_state()
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    with torch.no_grad():  # a caller's setting is no matter
        assert math.isfinite(scored(name, net))
    assert torch.get_rng_state().equal(random)
    for mine, old in zip(net.modules(), before.modules(), strict=True):
        assert mine.training == old.training
        assert len(mine._forward_hooks) == len(old._forward_hooks)
        assert not mine._forward_pre_hooks
    for (key, value), old in zip(net.state_dict().items(), before.state_dict().values(), strict=True):
        assert value.equal(old), key
    for parameter, old, gradient in zip(net.parameters(), before.parameters(), gradients, strict=True):
        assert parameter.requires_grad == old.requires_grad
        assert parameter.grad is gradient is None or parameter.grad.equal(gradient)


@pytest.mark.parametrize("name", SCORES)
def test_the_same_arguments_give_the_same_score(name: str) -> None:
    net, found = network(), set[float]()
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.add(scored(name, net))
    assert len(found) == 1


@pytest.mark.parametrize("name", ["naswot", "swap", "jacob_cov", "snip", "grad_norm", "fisher", "plain", "synflow"])
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    net, (x, y) = network(), batch()
    net[8].p = 0.0  # dropout would hit other images
    turned = x.flip(0), y.flip(0)
    assert scored(name, net, turned) == pytest.approx(scored(name, net), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["synflow", "logsynflow", "params", "macs", "depth"])
def test_signs_of_weights_and_values_of_images_do_not_matter(name: str) -> None:
    net = network()
    expected = scored(name, net)
    net[3].weight.data.neg_()
    assert scored(name, net, (torch.zeros(1, 3, 6, 6), torch.zeros(1).long())) == expected


@pytest.mark.parametrize("name", ["naswot", "swap"])
def test_the_scale_of_weights_does_not_switch_units(name: str) -> None:
    net = network()
    expected = scored(name, net)
    net[3].weight.data.mul_(4.0)  # a power of two, so that rounding is the same
    net[4].eps = 16 * net[4].eps
    assert scored(name, net) == expected


@pytest.mark.parametrize("name", ["zen", "az_nas"])
def test_weights_that_are_drawn_anew_do_not_matter(name: str) -> None:
    net = network()
    expected = scored(name, net)
    net[3].weight.data.mul_(3.0)
    assert scored(name, net) == expected


def test_plain_is_zero_for_a_layer_before_a_batch_norm() -> None:
    """The loss does not depend on the scale of such a layer, so weight times gradient sums to zero (Euler)."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-12), nn.Flatten())
    assert abs(scored("plain", net, (batch()[0], torch.arange(8)))) < 1e-4
    assert scored("snip", net, (batch()[0], torch.arange(8))) > 1e-2


@pytest.mark.parametrize("name", ["synflow", "snip", "grasp", "fisher", "grad_norm", "zico", "zen", "az_nas"])
def test_networks_without_weights_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="no convolution and no linear layer"):
        scored(name, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (batch()[0], torch.zeros(8).long()))


def test_where_nothing_flows_synflow_is_minus_infinity() -> None:
    net = network()
    net[3].weight.data.zero_()
    net[9].bias.data.zero_()
    net[3].weight.data.zero_()
    assert scored("synflow", net) == -math.inf


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("name", SCORES)
def test_a_gpu_gives_the_score_of_the_cpu(name: str) -> None:
    net = network()
    net[8].p = 0.0
    assert scored(name, net.cuda()) == pytest.approx(scored(name, net.cpu()), rel=1e-3)


def test_names_are_those_of_the_group() -> None:
    """``callbacks.rank_check.proxies`` and ``proxy=`` mean the same by a name."""
    files = sorted((Path(conf_dir()) / "proxy").glob("*.yaml"))
    targets = {file.stem: yaml.safe_load(file.read_text())["_target_"] for file in files}
    assert targets == {name: f"{made.__module__}.{made.__qualname__}" for name, made in NAMED.items()}
    assert {*get_args(ProxyName)} == {*NAMED, "az_nas"} == {*SCORES}
    for name, made in NAMED.items():
        settings = {key: value for key, value in yaml.safe_load(files_text(files, name)).items() if key != "_target_"}
        assert vars(made()) == settings, name


def files_text(files: list[Path], name: str) -> str:
    return next(file.read_text() for file in files if file.stem == name)


def test_scores_of_a_set_are_those_of_its_networks() -> None:
    nets = [network(), network()]
    nets[1][3].weight.data.zero_()
    nets[1][9].bias.data.zero_()
    assert named_scores("synflow", nets, batch(), F.cross_entropy, 0) == [scored("synflow", nets[0]), -math.inf]
    by_az = named_scores("az_nas", nets, batch(), F.cross_entropy, 0)
    assert by_az[0] == by_az[1]  # their weights are drawn anew, from the same numbers
