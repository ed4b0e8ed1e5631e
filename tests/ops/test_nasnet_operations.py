import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_nas.latency.macs import count_params
from lightning_nas.ops.cells import FactorizedReduction, auxiliary_head
from lightning_nas.spaces.nasnet.operations import ALL, AMOEBANET, NASNET, PNAS, operation


def test_the_papers_have_so_many_operations() -> None:
    assert (len(set(NASNET)), len(set(AMOEBANET)), len(set(PNAS)), len(ALL)) == (13, 8, 8, 15)
    assert set(PNAS) < set(NASNET)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(8, 8), (8, 12)])
@pytest.mark.parametrize("option", ALL)
def test_operations_give_the_channels_they_are_told_and_divide_the_size(
    option: str, channels: tuple[int, int], stride: int
) -> None:
    for size in (8, 7):
        made = operation(option, *channels, stride)(torch.randn(2, channels[0], size, size))
        assert made.shape == (2, channels[1], -(-size // stride), -(-size // stride))


def test_operations_have_the_parameters_the_papers_give_them() -> None:
    c, d = 8, 12
    weights = {
        "skip_connect": (c * d, 1),
        "conv_1x3_3x1": (3 * c * d + 3 * d * d, 2),
        "conv_1x7_7x1": (7 * c * d + 7 * d * d, 2),
        "dil_conv_3x3": (9 * c * d, 1),
        "conv_1x1": (c * d, 1),
        "conv_3x3": (9 * c * d, 1),
        "dil_sep_conv_3x3": (9 * c + c * d, 1),
        "avg_pool_3x3": (c * d, 1),
        "max_pool_7x7": (c * d, 1),
    }
    weights |= {f"sep_conv_{k}x{k}": (k * k * c + c * d + k * k * d + d * d, 2) for k in (3, 5, 7)}
    for option, (count, norms) in weights.items():
        assert count_params(operation(option, c, d)) == count + norms * 2 * d
    narrow = c * 3 + 2 * 7 * 3 * 3 + 3 * d + 3 * 2 * 3 + 2 * d
    assert count_params(operation("narrow_1x7_7x1", c, d)) == narrow


def test_every_convolution_stands_between_relu_and_batch_norm() -> None:
    for option in (option for option in ALL if "pool" not in option):
        layers = [m for m in operation(option, 8, 12).modules() if not list(m.children())]
        kinds = [type(layer).__name__ for layer in layers]
        depthwise = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in layers)
        one = ["ReLU", *["Conv2d"] * (2 if depthwise else 1), "BatchNorm2d"]
        assert kinds == one * (len(kinds) // len(one))


def test_pools_ignore_padding_and_dilation_sees_5_pixels() -> None:
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(operation("avg_pool_3x3", 3, 3, 2)(x), F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
    torch.testing.assert_close(operation("max_pool_7x7", 3, 3)(x), F.max_pool2d(x, 7, 1, 3))
    for option in ("dil_conv_3x3", "dil_sep_conv_3x3"):
        x = torch.ones(1, 3, 9, 9, requires_grad=True)
        operation(option, 3, 3).eval()(x)[0, :, 4, 4].sum().backward()
        assert x.grad is not None
        seen = x.grad.abs().sum((0, 1)).nonzero()
        assert (seen.min(), seen.max(), len(seen)) == (2, 6, 9)


def test_an_odd_reduction_gives_the_second_half_one_channel_more() -> None:
    halved = FactorizedReduction(4, 11)
    assert (halved.even.out_channels, halved.odd.out_channels) == (5, 6)
    assert halved(torch.zeros(1, 4, 9, 9)).shape == (1, 11, 5, 5)


def test_the_auxiliary_classifiers_last_convolution_covers_its_input() -> None:
    head = auxiliary_head(6, 3, stride=3, last_norm=True, kernel=4)
    assert head(torch.zeros(2, 6, 14, 14)).shape == (2, 3)
    assert count_params(head) == 6 * 128 + 256 + 128 * 768 * 16 + 1536 + 768 * 3 + 3
