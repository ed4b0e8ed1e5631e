"""Blocks against explicit loops over pixels, and torch's own channel shuffle."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lightning_nas.ops.blocks import ChannelShuffle, InvertedResidual, MBConv, conv_bn, initialize, skip


def convolve(x: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    """A convolution as its definition has it: (C, H, W) in, one output pixel at a time."""
    weight, kernel, stride = conv.weight.detach().numpy(), conv.kernel_size[0], conv.stride[0]
    fan_in, fan_out = weight.shape[1], weight.shape[0] // conv.groups
    padded = np.pad(x, ((0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2))
    height, width = (math.ceil(side / stride) for side in x.shape[1:])
    y = np.zeros((len(weight), height, width))
    for c, i, j in np.ndindex(y.shape):
        inputs = slice(c // fan_out * fan_in, (c // fan_out + 1) * fan_in)
        rows, columns = (slice(at * stride, at * stride + kernel) for at in (i, j))
        y[c, i, j] = (padded[inputs, rows, columns] * weight[c]).sum()
    return y


def normalize(x: np.ndarray, norm: nn.BatchNorm2d) -> np.ndarray:
    mean, var, weight, bias = (
        tensor.detach().numpy()[:, None, None]
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(var + norm.eps) * weight + bias


def with_random_statistics(module: nn.Module) -> nn.Module:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
                tensor.uniform_(0.5, 1.5)
    return module.double().eval()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "stride", "out_channels"), [(3, 1, 4), (5, 1, 4), (3, 2, 4), (5, 2, 6), (3, 1, 6)])
def test_inverted_residual_is_expand_shuffle_depthwise_project(kernel, stride, out_channels, groups):
    torch.manual_seed(0)
    block = InvertedResidual(4, out_channels, kernel=kernel, expansion=3, stride=stride, groups=groups)
    with_random_statistics(block)
    x = np.random.default_rng(0).normal(size=(4, 5, 7))

    hidden = np.maximum(normalize(convolve(x, block.expand.conv), block.expand.norm), 0)
    hidden = np.stack([hidden[g * 12 // groups + i] for i in range(12 // groups) for g in range(groups)])
    hidden = np.maximum(normalize(convolve(hidden, block.depthwise.conv), block.depthwise.norm), 0)
    expected = normalize(convolve(hidden, block.project.conv), block.project.norm)
    if stride == 1 and out_channels == 4:
        expected += x

    with torch.no_grad():
        got = block(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("groups", [2, 3])
def test_channel_shuffle_agrees_with_torch(groups):
    x = torch.randn(2, 12, 3, 5)
    assert torch.equal(ChannelShuffle(groups)(x), nn.ChannelShuffle(groups)(x))
    x = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(ChannelShuffle(groups)(x), nn.ChannelShuffle(groups)(x))


@pytest.mark.parametrize(("expansion", "groups"), [(1, 1), (1, 2), (3, 1), (6, 1)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_inverted_residual_has_the_parameters_of_the_paper(kernel, expansion, groups):
    block = InvertedResidual(16, 24, kernel=kernel, expansion=expansion, groups=groups)
    hidden = 16 * expansion
    weights = 16 * hidden // groups + hidden * kernel**2 + hidden * 24 // groups
    assert sum(p.numel() for p in block.parameters()) == weights + 2 * (hidden + hidden + 24)


@pytest.mark.parametrize(("channels", "stride"), [((4, 6), 1), ((4, 4), 2), ((4, 6), 2)])
def test_skip_is_a_convolution_with_relu_where_shapes_change(channels, stride):
    torch.manual_seed(0)
    module = with_random_statistics(skip(*channels, stride))
    x = np.random.default_rng(0).normal(size=(4, 5, 6))
    expected = np.maximum(normalize(convolve(x, module.conv), module.norm), 0)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x)[None])[0].numpy(), expected, rtol=1e-10, atol=1e-12)
    assert module.conv.kernel_size == (1, 1)


def test_skip_is_the_identity_where_shapes_agree():
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(skip(4, 4, 1)(x), x)
    assert not list(skip(4, 4, 1).parameters())


def test_initialize_is_he_by_fan_out_and_leaves_batch_norm_neutral():
    torch.manual_seed(0)
    network = nn.Sequential(conv_bn(32, 64, 3), conv_bn(256, 256, 5, groups=256), nn.Flatten(), nn.Linear(500, 200))
    initialize(network)
    wide, depthwise, linear = network[0].conv.weight, network[1].conv.weight, network[3]
    assert wide.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    # torch counts fan-out of a grouped convolution per whole layer: 256 filters of 25
    assert depthwise.std().item() == pytest.approx(math.sqrt(2 / (256 * 25)), rel=0.05)
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert linear.bias.abs().max() == 0
    assert (network[0].norm.weight == 1).all()
    assert (network[0].norm.bias == 0).all()


@pytest.mark.parametrize(("kernel", "expansion", "stride", "out_channels"), [(7, 6, 1, 4), (5, 3, 2, 6), (3, 1, 1, 6)])
def test_mbconv_is_expand_depthwise_project_with_relu6(kernel, expansion, stride, out_channels):
    torch.manual_seed(0)
    blocks = [
        with_random_statistics(MBConv(4, out_channels, kernel=kernel, expansion=expansion, stride=stride, residual=r))
        for r in (True, False)
    ]
    blocks[1].load_state_dict(blocks[0].state_dict())
    block, x = blocks[0], 8 * np.random.default_rng(0).normal(size=(4, 5, 7))

    hidden = x
    if expansion > 1:
        hidden = np.clip(normalize(convolve(x, block.expand.conv), block.expand.norm), 0, 6)
    assert hidden.max() >= 6, "nothing is cut off: the test would not see it"
    hidden = np.clip(normalize(convolve(hidden, block.depthwise.conv), block.depthwise.norm), 0, 6)
    expected = normalize(convolve(hidden, block.project.conv), block.project.norm)

    residual = x if stride == 1 and out_channels == 4 else 0.0
    with torch.no_grad():
        outputs = [block(torch.from_numpy(x)[None])[0].numpy() for block in blocks]
    np.testing.assert_allclose(outputs[0], expected + residual, rtol=1e-10)
    np.testing.assert_allclose(outputs[1], expected, rtol=1e-10)
