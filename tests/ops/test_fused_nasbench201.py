"""The fused form of NAS-Bench-201's cell against the plain one, in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_nas.ops import nasbench201
from lightning_nas.ops.altered import partial_channels
from lightning_nas.ops.mixed import Choice, plain
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.nasbench201.operations import EDGES, OPTIONS, MixedCell, operation
from lightning_nas.spaces.nasbench201.space import GROUP, NASBench201Space

ALL = (tuple(range(5)),) * 6
SOME = {
    "all": ALL,
    "the same of every edge": ((2, 3),) * 6,
    "others of every edge": ((0, 1), (3, 4), (2, 3), (1, 4), (0, 2, 3), (0, 4)),
    "without convolutions": ((0, 1), (1, 4), (0, 4), (1, 4), (0, 1, 4), (0, 1)),
}


@pytest.fixture
def fusions(monkeypatch) -> list[int]:
    """One entry for every cell that was computed together."""
    seen: list[int] = []
    fuse = nasbench201.mix_cell
    monkeypatch.setattr(nasbench201, "mix_cell", lambda *args: (seen.append(1), fuse(*args))[1])
    return seen


def pair(*, affine: bool, training: bool = True) -> tuple[MixedCell, MixedCell]:
    """A plain and a fused cell of equal, untidy state."""
    torch.manual_seed(0)
    choice = Choice(OPTIONS, lambda option, *widths: operation(option, *widths, affine=affine), 4, 4)
    cell = MixedCell([plain(choice) for _ in EDGES]).double().train(training)
    for module in cell.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 1.5)
    fast = copy.deepcopy(cell)
    fast.fused = True
    return cell, fast


def inputs(size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 4, size, size, generator=generator, dtype=torch.float64)
    return x, torch.rand(6, 5, generator=generator, dtype=torch.float64)


def results(cell: MixedCell, x: Tensor, rows: Tensor, active: tuple[tuple[int, ...], ...]) -> dict[str, Tensor | None]:
    """Everything one forward and backward pass leaves behind, by name."""
    x, rows = x.clone().requires_grad_(), rows.clone().requires_grad_()
    y = cell(x, rows, active)
    weighting = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (y * weighting).sum().backward()
    found = {"output": y.detach(), "input": x.grad, "gates": rows.grad}
    return found | {name: p.grad for name, p in cell.named_parameters()} | dict(cell.named_buffers())


def assert_same(expected: dict[str, Tensor | None], got: dict[str, Tensor | None]) -> None:
    assert list(expected) == list(got)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-10, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "not affine"])
@pytest.mark.parametrize("active", SOME.values(), ids=SOME)
def test_fused_and_plain_form_agree(active, affine, training, fusions):
    cell, fast = pair(affine=affine, training=training)
    x, rows = inputs()
    assert_same(results(cell, x, rows, active), results(fast, x, rows, active))
    assert len(fusions) == 1


@pytest.mark.parametrize("size", [1, 2, 5])
def test_small_and_odd_images_fit(size, fusions):
    x, rows = inputs(size)
    assert_same(*(results(cell, x, rows, ALL) for cell in pair(affine=True)))
    assert fusions


def test_binary_gates_learn_of_every_option_that_runs(fusions):
    x, rows = inputs()
    chosen = F.one_hot(1 + rows[:, 1:].argmax(1), 5).double()
    expected, got = (results(cell, x, chosen, ALL) for cell in pair(affine=True))
    assert_same(expected, got)
    assert (got["gates"][:, 1:] != 0).all()
    assert (got["gates"][:, 0] == 0).all()  # "none" gives nothing
    assert fusions


def test_one_path_is_mixed_plainly(fusions):
    x, rows = inputs()
    for active in (((3,),) * 6, ((0,), (1,), (2,), (3,), (4,), (3,))):
        assert_same(*(results(cell, x, rows, active) for cell in pair(affine=False)))
    assert not fusions


def test_second_derivatives_equal_those_of_the_plain_form():
    x, rows = inputs(4)
    found = []
    for cell in pair(affine=True):
        gates, weights = rows.clone().requires_grad_(), list(cell.parameters())
        first = torch.autograd.grad(cell(x, gates, ALL).pow(3).sum(), weights, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), gates)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


def test_an_architecture_step_computes_only_gradients_of_gates():
    cell, fast = pair(affine=True)
    expected, got = results(cell, *inputs(), ALL), results(fast.requires_grad_(False), *inputs(), ALL)
    assert all(parameter.grad is None for parameter in fast.parameters())
    for name in ("output", "input", "gates"):
        torch.testing.assert_close(got[name], expected[name], rtol=1e-10, atol=1e-12)


def test_two_training_steps_of_a_whole_supernet_agree():
    states = []
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for fast in (False, True):
        torch.manual_seed(0)
        space = NASBench201Space(image_size=8, num_classes=5, channels=4, cells=(1, 1), fused=fast)
        net = space.supernet().double()
        logits = torch.zeros(6, 5, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([*net.parameters(), logits], lr=0.05)
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(net(x, Gates.soft({GROUP: logits.softmax(-1)})), torch.arange(4)).backward()
            optimizer.step()
        states.append(net.state_dict() | {"logits": logits.detach()})
    assert_same(*states)


def test_a_method_that_mixes_in_its_own_way_is_not_fused(fusions):
    space = NASBench201Space(image_size=8, channels=8, cells=(1,))
    gates = Gates.soft({GROUP: torch.full((6, 5), 0.2)})
    space.supernet(lambda choice: partial_channels(choice, 4))(torch.zeros(2, 3, 8, 8), gates)
    assert not fusions
    space.supernet()(torch.zeros(2, 3, 8, 8), gates)
    assert fusions
