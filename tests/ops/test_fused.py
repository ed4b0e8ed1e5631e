"""The fused form against the plain one in float64, and its depthwise gradient against finite differences."""

import copy
from collections.abc import Iterator
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_nas.ops import fused
from lightning_nas.ops.fused import FusedMixedBlock
from lightning_nas.ops.mixed import MixedOp
from lightning_nas.spaces.chains.fbnet import OPTIONS, FBNetSpace, Layer
from lightning_nas.spaces.chains.proxyless import ProxylessBlock, ProxylessNASSpace
from lightning_nas.spaces.chains.proxyless_blocks import MBBlock
from lightning_nas.spaces.gates import Gates

ALL = tuple(range(len(OPTIONS)))
LAYERS = {
    "residual": Layer(4, 4, 1, 7),
    "wider": Layer(4, 6, 1, 6),
    "strided": Layer(4, 4, 2, 9),
    "strided and wider": Layer(4, 8, 2, 8),
    "smaller than the kernel": Layer(4, 4, 1, 2),
    "mobile": ProxylessBlock(4, 4, 1, 8),
    "mobile, also of expansion 1": MBBlock(4, 4, 1, 8),
    "mobile, strided and wider": ProxylessBlock(4, 6, 2, 9),
    "mobile, smaller than the kernel": ProxylessBlock(4, 6, 1, 3),
}


def pair(layer: Layer | MBBlock, dtype: torch.dtype = torch.float64) -> tuple[MixedOp, FusedMixedBlock]:
    """A plain and a fused mixed operation of equal, untidy state."""
    torch.manual_seed(0)
    plain = MixedOp(layer.choice().operations())
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
    plain = plain.to(dtype)
    fast = FusedMixedBlock(layer.choice().operations()).to(dtype)
    fast.load_state_dict(plain.state_dict())
    return plain, fast


def inputs(layer: Layer | MBBlock, batch: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, layer.in_channels, layer.size, layer.size, generator=generator, dtype=dtype)
    gates = torch.rand(len(layer.choice().options), generator=generator, dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last), gates


def results(
    op: MixedOp, x: Tensor, gates: Tensor, active: tuple[int, ...] | None = None
) -> Iterator[tuple[str, Tensor | None]]:
    """Everything one forward and backward pass leaves behind, by name."""
    x, gates = x.clone().requires_grad_(), gates.clone().requires_grad_()
    y = op(x, gates, active or range(len(gates)))
    weighting = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    (y * weighting.to(y.dtype)).sum().backward()
    yield from (("output", y.detach()), ("input", x.grad), ("gates", gates.grad))
    yield from ((name, parameter.grad) for name, parameter in op.named_parameters())
    yield from op.named_buffers()


def assert_same(plain: MixedOp, fast: MixedOp, x: Tensor, gates: Tensor, active: tuple[int, ...] | None = None) -> None:
    for (name, expected), (_, got) in zip(
        results(plain, x, gates, active), results(fast, x, gates, active), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_fused_and_plain_form_agree(layer, training):
    plain, fast = pair(layer)
    assert_same(plain.train(training), fast.train(training), *inputs(layer))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("layer", [LAYERS["residual"], LAYERS["mobile"]], ids=["fbnet", "mobile"])
def test_binary_gates_learn_of_every_option_that_runs(layer, training):
    plain, fast = pair(layer)
    x, gates = inputs(layer)
    chosen = torch.zeros_like(gates)
    chosen[2] = 1
    for active in (None, (2, 4), (2,)):
        assert_same(plain.train(training), fast.train(training), x, chosen, active)
    assert (dict(results(fast, x, chosen))["gates"] != 0)[:6].all()


def test_no_connection_alone_is_mixed_plainly():
    layer = LAYERS["mobile"]
    x, gates = inputs(layer)
    assert_same(*pair(layer), x, gates, (6,))
    assert layer.choice().options[6] == "zero"


@pytest.mark.parametrize("limit", [1, 3000], ids=["one block a chunk", "a few blocks a chunk"])
def test_how_blocks_are_packed_does_not_change_the_numbers(monkeypatch, limit):
    monkeypatch.setattr(fused, "CPU_LIMIT", limit)
    layer = LAYERS["residual"]
    assert_same(*pair(layer), *inputs(layer))


def test_blocks_are_packed_by_kernel_size_up_to_the_limit():
    blocks = {i: LAYERS["residual"].block(option) for i, option in enumerate(OPTIONS[:-1])}  # hidden 4 4 12 24 each
    assert fused._chunks(blocks, positions=10, limit=float("inf")) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert fused._chunks(blocks, positions=10, limit=150) == [[0, 1], [2], [3], [4, 5], [6], [7]]


@pytest.mark.parametrize("active", [(3,), (8,), (1, 5), (0, 8), (7, 2, 8)])
def test_options_that_are_not_active_are_not_touched(active):
    layer = LAYERS["strided"]
    plain, fast = pair(layer)
    x, gates = inputs(layer)
    assert_same(plain, fast, x, gates, active)
    idle = [name for i, name in enumerate(fast.names) if i not in active]
    assert all(parameter.grad is None for name in idle for parameter in fast[name].parameters())
    assert all(fast[name].get_buffer(f"{part}.norm.num_batches_tracked") == 0 for name in idle if name != "skip"
               for part in ("expand", "depthwise", "project"))  # fmt: skip


@pytest.mark.parametrize("layer", [LAYERS["residual"], LAYERS["mobile"]], ids=["fbnet", "mobile"])
@pytest.mark.parametrize("change", ["cumulative average", "one frozen norm", "a block of another class"])
def test_what_cannot_be_fused_is_mixed_plainly(change, layer):
    plain, fast = pair(layer)

    class Negated(type(plain["k3_e3"])):
        def forward(self, x):
            return -super().forward(x)

    for op in (plain, fast):
        if change == "cumulative average":
            for module in op.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = None
        elif change == "one frozen norm":
            op["k5_e3"].depthwise.norm.eval()
        else:
            op["k3_e6"].__class__ = Negated
    assert_same(plain, fast, *inputs(layer))


def test_state_is_interchangeable_with_the_plain_form():
    plain, fast = pair(LAYERS["wider"])
    assert list(fast.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in fast.named_parameters()] == [name for name, _ in plain.named_parameters()]


class Convolutions(TorchDispatchMode):
    """Counts backward convolutions that compute the gradient of their weight."""

    weight_gradients = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            self.weight_gradients += args[-1][1]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("weights", "expected"), [(False, 0), (True, 3 + 1)])
def test_no_weight_gradient_is_computed_that_nobody_asked_for(weights, expected):
    layer = LAYERS["strided"]
    _, fast = pair(layer)
    x, gates = inputs(layer)
    fast.requires_grad_(weights)
    y = fast(x.requires_grad_(), gates.requires_grad_(), ALL).sum()
    with Convolutions() as seen:
        y.backward()
    assert seen.weight_gradients == expected  # depthwise 3x3, both halves of 5x5, and the strided skip
    assert gates.grad.abs().min() > 0
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize("layer", [LAYERS["residual"], LAYERS["mobile, strided and wider"]], ids=["fbnet", "mobile"])
def test_a_gradient_of_a_gradient_is_that_of_the_plain_form(layer):
    x, gates = inputs(layer)
    found = []
    for op in pair(layer):
        leaf, row = x.clone().requires_grad_(), gates.clone().requires_grad_()
        first = torch.autograd.grad(op(leaf, row, range(len(row))).pow(3).sum(), op.parameters(), create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), (leaf, row)))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


def test_equal_inputs_give_equal_bits():
    layer = Layer(16, 16, 1, 14)
    _, fast = pair(layer, torch.float32)
    x, gates = inputs(layer, batch=4, dtype=torch.float32)
    twin = copy.deepcopy(fast)
    for (name, first), (_, second) in zip(results(fast, x, gates), results(twin, x, gates), strict=True):
        assert torch.equal(first, second), name


def test_single_precision_is_as_accurate_as_the_plain_form():
    layer = Layer(16, 16, 1, 14)
    x, gates = inputs(layer, batch=4)
    exact = dict(results(pair(layer)[0], x, gates))

    def error(op):
        got = dict(results(op, x.float(), gates.float()))
        return max(
            ((got[n] - exact[n]).abs().max() / exact[n].abs().max()).item() for n in ("output", "input", "gates")
        )

    plain, fast = (error(op) for op in pair(layer, torch.float32))
    assert fast < 3 * plain < 1e-4


def test_bfloat16_autocast_stays_close_to_the_plain_form():
    layer = Layer(16, 24, 2, 14)
    plain, fast = pair(layer, torch.float32)
    x, gates = inputs(layer, batch=8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, got = dict(results(plain, x, gates)), dict(results(fast, x, gates))
    assert got["output"].dtype == expected["output"].dtype == torch.bfloat16
    for name in ("output", "input", "gates"):
        near = F.cosine_similarity(got[name].float().flatten(), expected[name].float().flatten(), dim=0)
        assert near > 0.999, name
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in fast.parameters())


@pytest.mark.parametrize("make", [partial(FBNetSpace, head=16), partial(ProxylessNASSpace, mix=16, first=8)])
def test_two_training_steps_of_a_whole_supernet_agree(make):
    nets = []
    for fast in (False, True):
        torch.manual_seed(0)
        space = make(image_size=16, num_classes=5, stem=(8, 1), stages=[(8, 1, 1), (12, 2, 2)], fused=fast)
        nets.append(space.supernet().double())
    x, target = torch.randn(6, 3, 16, 16, dtype=torch.float64), torch.arange(6) % 5
    gates = Gates.soft({k: torch.rand(s, dtype=torch.float64).softmax(-1) for k, s in space.gate_shapes.items()})
    for net in nets:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(net(x, gates), target).backward()
            optimizer.step()
    plain, fast = (net.state_dict() for net in nets)
    for name, expected in plain.items():
        torch.testing.assert_close(fast[name], expected, rtol=1e-9, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}")


def test_the_plain_form_is_the_weighted_sum_of_the_active_options():
    op = MixedOp({"twice": nn.Conv2d(1, 1, 1), "same": nn.Identity(), "never": nn.Linear(1, 1)}).double()
    nn.init.constant_(op["twice"].weight, 2)
    nn.init.zeros_(op["twice"].bias)
    y = op(torch.full((1, 1, 2, 2), 3.0, dtype=torch.float64), torch.tensor([0.5, 10.0, 7.0]), (0, 1))
    assert y.tolist() == [[[[0.5 * 6 + 10 * 3] * 2] * 2]]
