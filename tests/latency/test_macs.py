import pytest
import torch
from torch import Tensor, nn

from lightning_nas.latency import count_macs
from lightning_nas.latency.macs import count_params
from lightning_nas.spaces.chains.fbnet import FBNetSpace


def by_hand(network: nn.Module, x: Tensor) -> int:
    """Multiply-adds from each layer's real output: one dot product an output element."""
    total = 0

    def hook(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module.weight, Tensor)
        total += output.numel() * module.weight[0].numel()

    handles = [m.register_forward_hook(hook) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    network.eval()(x)
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize("seed", range(5))
def test_macs_are_the_dot_products_that_really_run(space: FBNetSpace, seed: int) -> None:
    network = space.network(space.sample(torch.Generator().manual_seed(seed)))
    assert count_macs(network, space.input_shape) == by_hand(network, torch.zeros(1, *space.input_shape))


def test_macs_of_layers_by_formula() -> None:
    assert count_macs(nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4), (8, 10, 10)) == 16 * 5 * 5 * 2 * 9
    assert count_macs(nn.Sequential(nn.Flatten(), nn.Linear(12, 7)), (3, 2, 2)) == 12 * 7
    assert count_macs(nn.Sequential(nn.Flatten(), nn.Linear(12, 7, bias=False)), (3, 2, 2)) == 12 * 7
    assert count_macs(nn.Identity(), (3, 2, 2)) == 0


def test_products_that_are_not_layers_do_not_count() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(-1, -2)

    assert count_macs(Attention(), (3, 4, 4)) == 0


def test_counting_leaves_the_network_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_macs(network, (1, 8, 8))
    assert network.training
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_parameters_are_counted_and_buffers_are_not() -> None:
    assert count_params(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))) == 8 * 3 * 9 + 2 * 8
