import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.ops.cells import FOREIGN, OPTIONS, DropPath, FactorizedReduction, auxiliary_head, operation


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("option", [*OPTIONS, *FOREIGN])
def test_operations_keep_channels_and_divide_the_size(option: str, stride: int, affine: bool) -> None:
    for size in (8, 7):
        made = operation(option, 4, stride, affine=affine)(torch.randn(2, 4, size, size))
        assert made.shape == (2, 4, -(-size // stride), -(-size // stride))


def test_operations_have_the_parameters_the_paper_gives_them() -> None:
    c = 16
    weights = {
        "none": 0,
        "max_pool_3x3": 0,
        "avg_pool_3x3": 0,
        "skip_connect": 0,
        "sep_conv_3x3": 2 * (9 * c + c * c),
        "sep_conv_5x5": 2 * (25 * c + c * c),
        "sep_conv_7x7": 2 * (49 * c + c * c),
        "dil_conv_3x3": 9 * c + c * c,
        "dil_conv_5x5": 25 * c + c * c,
        "conv_7x1_1x7": 2 * 7 * c * c,
    }
    norms = {option: 2 if option.startswith("sep") else 0 if weights[option] == 0 else 1 for option in weights}
    for option, count in weights.items():
        assert count_params(operation(option, c, 1, affine=False)) == count
        assert count_params(operation(option, c, 1, affine=True)) == count + norms[option] * 2 * c


@pytest.mark.parametrize("affine", [True, False])
def test_pools_can_have_a_batch_norm_in_any_case_and_nothing_else_changes(affine: bool) -> None:
    for option in (*OPTIONS, *FOREIGN):
        always, else_ = (operation(option, 6, 2, affine=affine, pool_norm=wanted) for wanted in (True, False))
        assert count_params(always) - count_params(else_) == (12 if affine and "pool" in option else 0)
        assert ("BatchNorm2d" in repr(always)) >= ("pool" in option)


def test_only_pools_of_a_search_are_followed_by_a_batch_norm() -> None:
    x = torch.randn(4, 2, 5, 5) * 3 + 1
    for option, pool in (
        ("max_pool_3x3", F.max_pool2d(x, 3, 1, 1)),
        ("avg_pool_3x3", F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
    ):
        torch.testing.assert_close(operation(option, 2, 1, affine=True)(x), pool)
        searched = operation(option, 2, 1, affine=False)(x)
        deviation = pool.std((0, 2, 3), correction=0, keepdim=True)
        torch.testing.assert_close(
            searched, (pool - pool.mean((0, 2, 3), keepdim=True)) / deviation, rtol=1e-4, atol=1e-4
        )


def test_a_dilated_convolution_sees_two_and_four_pixels_far() -> None:
    for option, reach in (("dil_conv_3x3", 2), ("dil_conv_5x5", 4), ("sep_conv_3x3", 2), ("sep_conv_5x5", 4)):
        x = torch.rand(1, 2, 17, 17).requires_grad_()
        made = operation(option, 2, 1).eval()
        for parameter in made.parameters():
            nn.init.ones_(parameter)  # no ReLU cuts anything off
        made(x)[0, :, 8, 8].sum().backward()
        seen = x.grad.abs().sum((0, 1)).nonzero()
        assert (seen.min().item(), seen.max().item()) == (8 - reach, 8 + reach)


@pytest.mark.parametrize("size", [6, 7])
def test_a_factorised_reduction_reads_even_pixels_and_odd_ones(size: int) -> None:
    reduction = FactorizedReduction(3, 4, affine=False).eval()
    x = torch.randn(2, 3, size, size)
    padded = F.pad(x.relu(), (0, 1, 0, 1))
    halves = [
        (reduction.even, padded[:, :, :size:2, :size:2]),
        (reduction.odd, padded[:, :, 1 : size + 1 : 2, 1 : size + 1 : 2]),
    ]
    expected = torch.cat([torch.einsum("nchw,oc->nohw", y, conv.weight[:, :, 0, 0]) for conv, y in halves], 1)
    torch.testing.assert_close(reduction(x), expected / (1 + reduction.norm.eps) ** 0.5)


def test_drop_path_is_the_identity_at_probability_zero_and_in_evaluation() -> None:
    drop, x = DropPath(), torch.randn(3, 2, 2, 2)
    assert drop(x) is x
    drop.probability = 0.7
    assert drop.eval()(x) is x


def test_drop_path_drops_whole_samples_and_keeps_the_expectation() -> None:
    drop = DropPath()
    drop.probability = 0.3
    torch.manual_seed(0)
    y = drop(torch.ones(20_000, 2, 1, 3)).flatten(1)
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert y[:, 0].eq(0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert y.mean().item() == pytest.approx(1.0, abs=0.02)


def test_auxiliary_heads_have_the_published_form() -> None:
    for channels, size, stride, last_norm, classes, params in (
        (576, 8, 3, True, 10, 476_426),
        (768, 7, 2, False, 1000, 1_260_776),
    ):
        head = auxiliary_head(channels, classes, stride=stride, last_norm=last_norm)
        assert count_params(head) == params
        assert head(torch.zeros(2, channels, size, size)).shape == (2, classes)
        assert sum(isinstance(m, nn.BatchNorm2d) for m in head) == (2 if last_norm else 1)
        convolutions = 4 * channels * 128 + 4 * 128 * 768
        assert count_macs(head, (channels, size, size)) == convolutions + 768 * classes
