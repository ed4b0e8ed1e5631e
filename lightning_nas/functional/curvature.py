r"""Sharpness of a loss, and the rule that stops a search when it has grown too much (R-DARTS, arXiv:1909.09656).

The dominant eigenvalue of the Hessian :math:`H` by power iteration: :math:`v \leftarrow H v / \|H v\|`, with the value
:math:`v^\top H v`. The Hessian itself is never formed; a product with it is one more backward pass through the
gradient, or the difference of two gradients.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Loss = Callable[[], Tensor]
Product = Callable[[Tensor], Tensor]


def dominant_eigenvalue(product: Product, start: Tensor, *, iterations: int = 20, tolerance: float = 1e-3) -> float:
    """Compute the eigenvalue of largest magnitude of a symmetric matrix, with its sign.

    Args:
        product: multiplies a vector by the matrix.
        start: any vector that is not orthogonal to the eigenvector, e.g. a random one.
        iterations: largest number of products.
        tolerance: stop when the value changes by less than this share of the length of the product.

    Example:
        >>> matrix = torch.diag(torch.tensor([1.0, -3.0, 2.0]))
        >>> round(dominant_eigenvalue(lambda v: matrix @ v, torch.ones(3), tolerance=1e-6), 3)
        -3.0
    """
    vector, value = start / start.norm(), math.inf
    for _ in range(iterations):
        image = product(vector)
        before, value = value, float(vector @ image)
        size = float(image.norm())
        if size == 0.0 or abs(value - before) <= tolerance * size:
            break
        vector = image / size
    return value


def exact_products(loss: Loss, parameters: Sequence[Tensor]) -> Product:
    """Make products of vectors with the Hessian by differentiating the loss twice.

    Args:
        loss: computes a loss of the parameters; called once.
        parameters: leaves that require a gradient; vectors are as long as all of them together.

    Raises:
        RuntimeError: an operation of the loss cannot be differentiated twice.
    """
    gradient = _gradient(loss(), parameters, create_graph=True)
    if _breaks(gradient):
        raise RuntimeError("an operation of the loss is once_differentiable")

    def product(vector: Tensor) -> Tensor:
        return _gradient(gradient @ vector, parameters, retain_graph=True)

    return product


def difference_products(loss: Loss, parameters: Sequence[Tensor], *, epsilon: float = 0.01) -> Product:
    r"""Make the same products by :math:`(\nabla L(p + \epsilon v) - \nabla L(p - \epsilon v)) / 2 \epsilon`.

    Vectors have length 1. The parameters are moved during a product and restored to the same bits afterwards.

    Args:
        loss: computes the loss with the present values of the parameters; must be the same function at each call.
        parameters: as in :func:`exact_products`.
        epsilon: distance by which the parameters are moved.
    """
    before = [parameter.detach().clone() for parameter in parameters]

    def gradient_at(step: Tensor) -> Tensor:
        try:
            _move(parameters, before, step)
            return _gradient(loss(), parameters)
        finally:
            _move(parameters, before)

    def product(vector: Tensor) -> Tensor:
        return (gradient_at(epsilon * vector) - gradient_at(-epsilon * vector)) / (2 * epsilon)

    return product


def local_averages(values: Sequence[float], window: int) -> list[float]:
    """Compute the mean of each ``window`` consecutive values.

    >>> local_averages([1.0, 2.0, 3.0], 2)
    [1.5, 2.5]
    """
    return [sum(values[i : i + window]) / window for i in range(len(values) - window + 1)]


def has_risen(averages: Sequence[float], window: int, ratio: float) -> bool:
    """Return whether the last average exceeds ``ratio`` times the average ``window - 1`` places before it.

    >>> has_risen([1.0, 1.0, 1.0, 1.0, 1.31], window=5, ratio=1.3), has_risen([1.0, 1.0, 1.0, 1.31], 5, 1.3)
    (True, False)
    """
    return len(averages) >= window and averages[-1] > ratio * averages[-window]


def _gradient(
    value: Tensor, parameters: Sequence[Tensor], *, create_graph: bool = False, retain_graph: bool | None = None
) -> Tensor:
    """One long vector, zero where the value does not depend on a parameter."""
    if not value.requires_grad:
        return torch.cat([torch.zeros_like(p).flatten() for p in parameters])
    found = torch.autograd.grad(
        value, list(parameters), retain_graph=retain_graph, create_graph=create_graph, allow_unused=True
    )
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)]
    )


def _breaks(gradient: Tensor) -> bool:
    """Whether a ``once_differentiable`` function is in its graph, which ``autograd.grad`` would ignore silently."""
    seen, waiting = set(), [gradient.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            if node.name() == "torch::autograd::Error":
                return True
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return False


@torch.no_grad()
def _move(parameters: Sequence[Tensor], start: Sequence[Tensor], step: Tensor | None = None) -> None:
    for parameter, old in zip(parameters, start, strict=True):
        parameter.copy_(old)
    if step is not None:
        pieces = torch.split(step, [parameter.numel() for parameter in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.add_(piece.view_as(parameter))
