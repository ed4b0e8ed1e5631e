import pytest
import torch
from scipy.stats import norm as norm_distribution
from torch import Tensor, nn

from lightning_nas.spaces.eas.net2net import (
    identity_norm,
    identity_weight,
    magnifiers,
    rectified_moments,
    remapping,
    settle_identities,
    wider_columns,
    wider_norm,
    wider_rows,
)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def norm(width: int, generator: torch.Generator, of: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    made = of(width)
    for name, value in made.state_dict().items():
        if value.dim():
            low = 0.5 if name == "running_var" else -1.0
            value.uniform_(low, 1.5, generator=generator)
    return made.eval()


def filled(module: nn.Module, weight: Tensor) -> nn.Module:
    module.load_state_dict({"weight": weight})
    return module


def test_a_remapping_has_all_old_units_first_and_then_any_of_them(generator: torch.Generator) -> None:
    drawn = set[int]()
    for new in range(4, 12):
        units = remapping(4, new, generator)
        assert units[:4].tolist() == [0, 1, 2, 3]
        assert len(units) == new
        drawn |= set(units[4:].tolist())
    assert drawn == {0, 1, 2, 3}


def test_magnifiers_of_one_unit_add_up_to_one(generator: torch.Generator) -> None:
    units = remapping(5, 17, generator)
    sums = torch.zeros(5).index_add(0, units, magnifiers(units))
    torch.testing.assert_close(sums, torch.ones(5))


@pytest.mark.parametrize("between", ["nothing", "pool", "flatten", "matrix"])
def test_wider_layers_preserve_the_function(between: str, generator: torch.Generator) -> None:
    old, new, size = 3, 8, 4
    x = torch.randn(2, 2, size, size, generator=generator)
    first, units = torch.randn(old, 2, 3, 3, generator=generator), remapping(old, new, generator)
    state, group = norm(old, generator).state_dict(), size**2 if between == "flatten" else 1
    steps = {"nothing": nn.Identity(), "pool": nn.MaxPool2d(2), "flatten": nn.Flatten()}
    middle = steps.get(between) or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    shape = (5, old * group) if between in ("flatten", "matrix") else (5, old, 3, 3)
    second = torch.randn(shape, generator=generator)

    def network(first: Tensor, state: dict[str, Tensor], second: Tensor) -> nn.Module:
        width = len(first)
        batch_norm = nn.BatchNorm2d(width)
        batch_norm.load_state_dict(state)
        columns = second.shape[1]
        last = nn.Conv2d(columns, 5, 3, bias=False) if second.dim() == 4 else nn.Linear(columns, 5, bias=False)
        conv = filled(nn.Conv2d(2, width, 3, padding=1, bias=False), first)
        return nn.Sequential(conv, batch_norm, nn.ReLU(), middle, filled(last, second)).eval()

    before = network(first, state, second)
    if between == "pool":
        x = torch.randn(2, 2, 8, 8, generator=generator)
    after = network(wider_rows(first, units), wider_norm(state, units), wider_columns(second, units, group))
    torch.testing.assert_close(after(x), before(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", [0, 1, 3, 5])
def test_a_deeper_layer_preserves_what_is_rectified_and_nothing_else(kernel: int, generator: torch.Generator) -> None:
    x = torch.randn(64, 4, 5, 5, generator=generator)
    x = x[:, :, 0, 0] if kernel == 0 else x
    made = nn.Conv2d(4, 4, kernel, padding=kernel // 2, bias=False) if kernel else nn.Linear(4, 4, bias=False)
    batch_norm: nn.Module = nn.BatchNorm2d(4) if kernel else nn.BatchNorm1d(4)
    layer = nn.Sequential(filled(made, identity_weight(4, kernel)), batch_norm, nn.ReLU())
    settle_identities(layer, [batch_norm], x.relu())  # type: ignore[list-item]
    layer.eval()
    torch.testing.assert_close(layer(x.relu()), x.relu(), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(layer(x.tanh()), x.tanh(), atol=1e-2)


def test_a_settled_norm_is_the_identity_in_training_too(
    generator: torch.Generator,
) -> None:
    x = 3 + 2 * torch.randn(64, 4, 5, 5, generator=generator)
    batch_norm = nn.BatchNorm2d(4)
    settle_identities(batch_norm, [batch_norm], x)
    assert batch_norm.training
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    torch.testing.assert_close(batch_norm.running_mean, mean)
    torch.testing.assert_close(batch_norm.weight, (variance + batch_norm.eps).sqrt())
    torch.testing.assert_close(batch_norm(x), x, atol=1e-5, rtol=1e-5)
    assert not batch_norm._forward_pre_hooks


def test_the_norm_of_the_sheet() -> None:
    state = identity_norm(torch.zeros(1), torch.tensor([4.0]), eps=1e-5)
    assert float(state["weight"]) == pytest.approx((4 + 1e-5) ** 0.5)


def test_noise_is_on_copies_alone_and_as_large_as_the_authors(generator: torch.Generator) -> None:
    weight = torch.randn(4, 50, 3, 3, generator=generator)
    units = remapping(4, 40, generator)
    difference = wider_rows(weight, units, 1.0, generator) - wider_rows(weight, units)
    assert not difference[:4].any()
    assert float(difference[4:].std() / weight.std()) == pytest.approx(0.01, rel=0.03)
    identity = identity_weight(32, 3)
    noise = identity_weight(32, 3, 1.0, generator) - identity
    assert float(noise.std() / identity.std()) == pytest.approx(0.001, rel=0.05)


def test_rectified_moments_are_those_of_the_integral() -> None:
    shift, scale = torch.tensor([0.0, 1.0, -2.0, 0.5, 3.0]), torch.tensor([1.0, -0.5, 1.5, 2.0, 0.0])
    mean, variance = rectified_moments(shift, scale)
    for m, v, a, b in zip(mean.tolist(), variance.tolist(), shift.tolist(), scale.abs().tolist(), strict=True):
        if b == 0:
            assert (m, v) == (a, 0)
            continue
        moments = [norm_distribution(a, b).expect(lambda x, k=k: x**k, lb=0) for k in (1, 2)]
        assert m == pytest.approx(moments[0], abs=1e-6)
        assert v == pytest.approx(moments[1] - moments[0] ** 2, abs=1e-5)
