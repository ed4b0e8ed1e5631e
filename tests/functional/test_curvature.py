from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lightning_nas.functional.curvature import (
    Product,
    difference_products,
    dominant_eigenvalue,
    exact_products,
    has_risen,
    local_averages,
)

PRODUCTS = [exact_products, difference_products]


def small_problem(dtype: torch.dtype = torch.float64) -> tuple[Callable[[], Tensor], list[nn.Parameter]]:
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(20, n, generator=draw, dtype=dtype) for n in (3, 2))
    first, second = (nn.Parameter(torch.randn(*shape, generator=draw, dtype=dtype)) for shape in ((3, 4), (4, 2)))
    unused = nn.Parameter(torch.ones(2, dtype=dtype))
    return lambda: ((x @ first).tanh() @ second - y).square().mean(), [first, unused, second]


def full_hessian(loss: Callable[[], Tensor], parameters: list[nn.Parameter]) -> Tensor:
    """Row by row, with plain autograd."""
    gradients = torch.autograd.grad(loss(), parameters, create_graph=True, materialize_grads=True)
    rows = []
    for entry in torch.cat([g.flatten() for g in gradients]):
        row = (
            torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True)
            if entry.requires_grad
            else [torch.zeros_like(p) for p in parameters]
        )
        rows.append(torch.cat([r.flatten() for r in row]))
    return torch.stack(rows)


def start(length: int) -> Tensor:
    return torch.randn(length, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("products", PRODUCTS)
def test_a_product_is_that_with_the_full_hessian(products: Callable[..., Product]) -> None:
    loss, parameters = small_problem()
    hessian, vector = full_hessian(loss, parameters), start(22)
    vector /= vector.norm()
    torch.testing.assert_close(products(loss, parameters)(vector), hessian @ vector, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("products", PRODUCTS)
def test_the_dominant_eigenvalue_is_that_of_the_full_hessian(products: Callable[..., Product]) -> None:
    loss, parameters = small_problem()
    values = torch.linalg.eigvalsh(full_hessian(loss, parameters))
    expected = values[values.abs().argmax()]
    found = dominant_eigenvalue(products(loss, parameters), start(22), iterations=500, tolerance=1e-9)
    assert found == pytest.approx(float(expected), rel=1e-4)


def test_the_parameters_and_their_gradients_stay_as_they_were() -> None:
    loss, parameters = small_problem(torch.float32)
    before = [p.detach().clone() for p in parameters]
    difference_products(loss, parameters)(torch.full((22,), 22**-0.5))
    assert all(torch.equal(p, old) and p.grad is None for p, old in zip(parameters, before, strict=True))


@pytest.mark.parametrize("products", PRODUCTS)
def test_a_loss_that_is_linear_has_no_curvature(products: Callable[..., Product]) -> None:
    p = nn.Parameter(torch.ones(3, dtype=torch.float64))
    assert dominant_eigenvalue(products(lambda: p.sum(), [p]), start(3)) == pytest.approx(0.0, abs=1e-12)


def test_exact_products_refuse_once_differentiable_operations() -> None:
    p = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))

    def loss() -> Tensor:
        cubes: Tensor = Cube.apply(2 * p)  # type: ignore[no-untyped-call]
        return cubes.square().sum()

    with pytest.raises(RuntimeError, match="once_differentiable"):
        exact_products(loss, [p])
    found = dominant_eigenvalue(difference_products(loss, [p]), start(2), iterations=50, tolerance=1e-9)
    assert found == pytest.approx(64 * 30 * 2**4, rel=1e-3)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        squares: Tensor = 3 * x**2
        return squares * gradient


def test_the_criterion_of_r_darts_on_its_worked_sequence() -> None:
    assert has_risen([1, 1, 1, 1, 1.31], window=5, ratio=1.3)
    assert not has_risen([1, 1, 1, 1, 1.3], window=5, ratio=1.3)
    assert not has_risen([1, 1, 1, 1.31], window=5, ratio=1.3)
    values = [1.0] * 8 + [1 + 5 * 0.31]  # the window of the last value has the mean 1.31
    assert local_averages(values, 5) == pytest.approx([1, 1, 1, 1, 1.31])
