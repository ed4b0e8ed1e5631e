"""The fused form of DARTS' mixed edges against the plain one, in float64; its convolutions against autograd's."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_nas.ops import fused_cells
from lightning_nas.ops.cells import OPTIONS
from lightning_nas.ops.convolutions import depthwise, grouped_pointwise
from lightning_nas.ops.mixed import plain
from lightning_nas.spaces.cells.genotype import KINDS
from lightning_nas.spaces.darts.networks import CellShape, MixedCell, edges
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.gates import Gates

NODES = 2
EDGES = len(edges(NODES))
ALL = (tuple(range(len(OPTIONS))),) * EDGES
SOME = {
    "all": ALL,
    "the same of every edge": ((0, 2, 4, 7),) * EDGES,
    "others of every edge": ((0, 1), (3, 5, 6), (2, 3), (4, 7), (1, 2, 3, 6)),
    "pools and skips alone": ((1, 2, 3),) * EDGES,
    "one path": ((4,), (1,), (0,), (3,), (7,)),
    "one path past a node without inputs": ((0,), (0,), (1,), (3,), (5,)),
}


def pair(kind: str, size: int, *, affine: bool = False) -> tuple[MixedCell, MixedCell]:
    """A plain and a fused cell of equal, untidy state."""
    torch.manual_seed(0)
    shape = CellShape(kind, 4, ((6, size), (8, size)), affine)
    cell = MixedCell(shape, OPTIONS, NODES, plain, fused=False).double()
    for module in cell.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(0.5, 1.5)
            module.running_var.uniform_(0.5, 1.5)
            if affine:
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.uniform_(0.5, 1.5)
    fast = copy.deepcopy(cell)
    fast.fused = True
    return cell, fast


def results(cell: MixedCell, size: int, active: tuple[tuple[int, ...], ...]) -> dict[str, Tensor | None]:
    """Everything one forward and backward pass leaves behind, by name."""
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(3, c, size, size, generator=generator, dtype=torch.float64) for c in (6, 8)]
    rows = torch.rand(EDGES, len(OPTIONS), generator=generator, dtype=torch.float64)
    for tensor in (*inputs, rows):
        tensor.requires_grad_()
    y = cell(*inputs, rows, active)
    (y * torch.randn(y.shape, generator=generator, dtype=torch.float64)).sum().backward()
    found = {"output": y.detach(), "before last": inputs[0].grad, "last": inputs[1].grad, "gates": rows.grad}
    return found | {name: p.grad for name, p in cell.named_parameters()} | dict(cell.named_buffers())


def assert_same(expected: dict[str, Tensor | None], got: dict[str, Tensor | None]) -> None:
    assert list(expected) == list(got)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-10, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.fixture
def fusions(monkeypatch) -> list[int]:
    """One entry for every state whose edges were computed together."""
    seen: list[int] = []
    fuse = fused_cells.mix_leaving
    monkeypatch.setattr(fused_cells, "mix_leaving", lambda *args: (seen.append(1), fuse(*args))[1])
    return seen


@pytest.mark.parametrize("active", SOME.values(), ids=SOME)
@pytest.mark.parametrize("size", [8, 5, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_fused_and_plain_form_agree(kind, size, active, fusions):
    cell, fast = pair(kind, size)
    assert_same(results(cell, size, active), results(fast, size, active))
    assert len(fusions) == NODES + 1


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_cells_whose_norms_have_scales_are_fused_too(training, fusions):
    cell, fast = (cell.train(training) for cell in pair("reduce", 6, affine=True))
    assert_same(results(cell, 6, ALL), results(fast, 6, ALL))
    assert len(fusions) == NODES + 1


@pytest.mark.parametrize("change", ["evaluation", "cumulative average", "one frozen norm"])
def test_what_cannot_be_fused_is_mixed_plainly(change, fusions):
    cells = pair("reduce", 6)
    for cell in cells:
        if change == "evaluation":
            cell.eval()
        elif change == "cumulative average":
            for module in cell.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = None
        elif change == "one frozen norm":
            cell.edges[3]["dil_conv_3x3"].norm.eval()
    assert_same(*(results(cell, 6, ALL) for cell in cells))
    assert not fusions


def test_an_architecture_step_computes_only_gradients_of_gates():
    cell, fast = pair("normal", 6)
    expected = results(cell, 6, ALL)
    found = results(fast.requires_grad_(False), 6, ALL)
    assert all(parameter.grad is None for parameter in fast.parameters())
    for name in ("output", "gates", "last"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-12)


def test_second_derivatives_equal_those_of_the_plain_form():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 6, 4, 4, generator=generator, dtype=torch.float64)
    before = torch.randn(2, 8, 4, 4, generator=generator, dtype=torch.float64)
    found = []
    for cell in pair("reduce", 4):
        rows = torch.full((EDGES, len(OPTIONS)), 0.3, dtype=torch.float64, requires_grad=True)
        weights = list(cell.parameters())
        first = torch.autograd.grad(cell(x, before, rows, ALL).pow(3).sum(), weights, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), rows)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


def test_two_training_steps_of_a_whole_supernet_agree():
    states = []
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for fast in (False, True):
        torch.manual_seed(0)
        space = DARTSSpace(image_size=8, num_classes=5, cells=3, channels=2, fused=fast)
        net = space.supernet().double()
        logits = {kind: torch.zeros(14, 8, dtype=torch.float64, requires_grad=True) for kind in KINDS}
        optimizer = torch.optim.SGD([*net.parameters(), *logits.values()], lr=0.05)
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(
                net(x, Gates.soft({k: v.softmax(-1) for k, v in logits.items()})), torch.arange(4)
            ).backward()
            optimizer.step()
        states.append(net.state_dict() | logits)
    assert_same(*({name: value.detach() for name, value in state.items()} for state in states))


@pytest.mark.parametrize("size", [(5, 6), (4, 7), (1, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_depthwise_and_its_gradients(kernel, stride, size):
    torch.manual_seed(0)
    x = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(depthwise(x, weight, stride), F.conv2d(x, weight, None, stride, kernel // 2, 1, 2))
    assert torch.autograd.gradcheck(lambda x, weight: depthwise(x, weight, stride), (x, weight))
    if size == (4, 7):
        assert torch.autograd.gradgradcheck(lambda x, weight: depthwise(x, weight, stride), (x, weight))


def test_grouped_pointwise_and_its_gradients():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(x, weight.flatten(0, 1)[..., None, None], groups=3)
    torch.testing.assert_close(grouped_pointwise(x, weight), expected)
    assert torch.autograd.gradcheck(grouped_pointwise, (x, weight))
    assert torch.autograd.gradgradcheck(grouped_pointwise, (x, weight))


def test_bfloat16_autocast_stays_close_to_the_plain_form():
    found = []
    for cell in pair("reduce", 8):
        x = torch.randn(4, 6, 8, 8, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = cell.float()(x, x.repeat(1, 2, 1, 1)[:, :8], torch.full((EDGES, len(OPTIONS)), 0.3), ALL)
        y.float().square().sum().backward()
        found.append(y.float().flatten())
        assert all(p.grad.isfinite().all() for p in cell.parameters())
    assert F.cosine_similarity(*found, dim=0) > 0.999
