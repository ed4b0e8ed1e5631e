import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.spaces.chains.shuffle_operations import KERNELS, shuffle_block


def convolved(x: Tensor, block: nn.Module, names: str) -> Tensor:
    """By hand: 'p' is a 1x1 convolution, 'd' a depthwise one, 's' one of stride 2; all but 'd' and 's' end in ReLU."""
    for kind, stage in zip(names, block, strict=True):
        weight = stage.conv.weight
        stride, groups = (2 if kind == "s" else 1), (1 if kind == "p" else len(weight))
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)
        x = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), False, keepdim=True) + 1e-5).sqrt()
        x = x.clamp(min=0) if kind == "p" else x
    return x


@pytest.mark.parametrize("kind", KERNELS)
def test_with_stride_1_even_channels_pass_by(kind: str) -> None:
    block, x = shuffle_block(kind, 6, 6, middle=5).double(), torch.randn(3, 6, 7, 7).double()
    rest = convolved(x[:, [1, 3, 5]], block.main, "dpdpdp" if kind == "xception" else "pdp")
    torch.testing.assert_close(block(x), torch.cat([x[:, [0, 2, 4]], rest], 1))


@pytest.mark.parametrize("kind", KERNELS)
def test_with_stride_2_both_branches_see_all_channels(kind: str) -> None:
    block, x = shuffle_block(kind, 6, 10, middle=5, stride=2).double(), torch.randn(3, 6, 7, 7).double()
    rest = convolved(x, block.main, "spdpdp" if kind == "xception" else "psp")
    torch.testing.assert_close(block(x), torch.cat([convolved(x, block.project, "sp"), rest], 1))


@pytest.mark.parametrize(("kind", "size"), [("k3", 3), ("k5", 5), ("k7", 7), ("xception", 3)])
def test_kernels_are_those_of_the_paper(kind: str, size: int) -> None:
    with torch.device("meta"):
        block = shuffle_block(kind, 4, 8, middle=4, stride=2)
    convolutions = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    assert {m.kernel_size[0] for m in convolutions if m.groups > 1} == {size}


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("kind", ["k5", "xception"])
def test_a_slice_is_the_narrow_block_with_the_first_weights(kind: str, momentum: float | None) -> None:
    wide, narrow = (shuffle_block(kind, 6, 10, middle=m, stride=2) for m in (8, 3))
    for norm in (m for block in (wide, narrow) for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = momentum
        nn.init.uniform_(norm.weight)
    sliced = wide.sliced(3)

    def cut() -> dict[str, Tensor]:
        shapes = {name: value.shape for name, value in narrow.state_dict().items()}
        return {k: v[tuple(map(slice, shapes[k]))].clone() for k, v in wide.state_dict().items()}

    narrow.load_state_dict(cut())
    untouched = wide.main[1].norm.running_var[3:].clone()
    for _ in range(3):
        x = torch.randn(4, 6, 8, 8)
        torch.testing.assert_close(sliced(x), narrow(x))
    torch.testing.assert_close(cut(), narrow.state_dict())
    assert torch.equal(wide.main[1].norm.running_var[3:], untouched)
    torch.testing.assert_close(sliced.eval()(x), narrow.eval()(x))
