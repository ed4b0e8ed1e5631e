import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_nas.ops.cells import DropPath, FactorizedReduction
from lightning_nas.spaces.enas.operations import MACRO, Combine, branch, by_batch, fixed_branch


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def test_batch_norms_by_batch_keep_no_statistics(x: torch.Tensor) -> None:
    norm = by_batch(nn.BatchNorm2d(4)).eval()
    torch.testing.assert_close(norm(x), F.batch_norm(x, None, None, training=True))
    assert set(norm.state_dict()) == {"weight", "bias"}


def test_enas_reduction_begins_without_relu(x: torch.Tensor) -> None:
    with_relu, without = FactorizedReduction(4, 4).eval(), FactorizedReduction(4, 4, relu=False).eval()
    without.load_state_dict(with_relu.state_dict())
    torch.testing.assert_close(without(x.relu()), with_relu(x))
    assert not torch.allclose(without(x), with_relu(x))


def test_a_share_of_the_probability_is_what_drops_paths() -> None:
    drop = DropPath(share=0.5)
    drop.probability = 1.0
    values = drop(torch.ones(256, 1, 1, 1)).flatten()
    assert set(values.tolist()) == {0.0, 2.0}
    assert 0.3 < float((values == 0).float().mean()) < 0.7


def test_combining_is_one_convolution_over_the_states_side_by_side(x: torch.Tensor) -> None:
    combine = Combine(2, range(5)).eval()
    first, second = x.chunk(2, 1)
    kernel = torch.cat([combine.parts["1"].weight, combine.parts["4"].weight], 1)
    expected = combine.norm(F.conv2d(x.relu(), kernel))
    torch.testing.assert_close(combine({1: first, 4: second}), expected)


@pytest.mark.parametrize("option", MACRO)
def test_a_macro_layer_has_the_convolutions_of_the_authors_code(option: str) -> None:
    shapes = [tuple(m.weight.shape) for m in branch(option, 4, 6).modules() if isinstance(m, nn.Conv2d)]
    kernel = int(option[-1])
    depthwise, full = [(6, 1, kernel, kernel), (6, 6, 1, 1)], [(6, 6, kernel, kernel)]
    then = [] if "pool" in option else depthwise if "sep" in option else full
    assert shapes == [(6, 4, 1, 1), *then]
    retrained = [tuple(m.weight.shape) for m in fixed_branch(option, 4, 6).modules() if isinstance(m, nn.Conv2d)]
    assert retrained == [(6, 4, 1, 1), *([] if "pool" in option else full)]
