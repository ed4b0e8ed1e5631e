r"""Gradient of a validation loss with respect to architecture parameters, through one step of the weights.

Liu et al., ICLR 2019, arXiv:1806.09055, section 2.3. With the gradient :math:`g = \nabla_w L_{train}(w, \alpha)`, the
step :math:`w' = w - \xi (\mu b + c(g) + \lambda w)`, where :math:`c` clips the norm, its derivative
:math:`J = \partial c / \partial g`, and :math:`d = \nabla_{w'} L_{val}(w', \alpha)`,

.. math:: \frac{d L_{val}(w'(\alpha), \alpha)}{d \alpha} =
          \nabla_\alpha L_{val}(w', \alpha) - \xi \, \nabla^2_{\alpha, w} L_{train}(w, \alpha) \, J d.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Loss = Callable[[], Tensor]
Tensors = Sequence[Tensor]
_TINY = 1e-6  # of torch.nn.utils.clip_grad_norm_


@dataclass(frozen=True)
class VirtualStep:
    r"""Virtual step of SGD, with everything that the real step has.

    A gradient :math:`g` longer than ``clip`` is shortened to :math:`c(g) = g \cdot clip / (|g| + 10^{-6})`, as by
    ``torch.nn.utils.clip_grad_norm_``. The derivative of the clipped gradient,

    .. math:: J d = \frac{clip}{|g| + 10^{-6}} \Big(d - \frac{g \, (g \cdot d)}{|g| \, (|g| + 10^{-6})}\Big),

    has nothing along :math:`g`: what lengthens a clipped gradient does not change the step.

    Attributes:
        lr: learning rate.
        momentum: factor of the momentum buffers.
        weight_decay: factor of the L2 penalty.
        buffers: momentum buffers of the weights, None for weights without one; empty for SGD without momentum.
        clip: largest norm of the gradient of all weights together; None for no clipping.
        dampening: share of the gradient that does not enter an existing momentum buffer.
        nesterov: Nesterov's momentum.

    Example:
        >>> weight = torch.tensor([1.0, 1.0])
        >>> VirtualStep(lr=0.1, clip=5.0).take([weight], [torch.tensor([30.0, 40.0])])
        >>> weight
        tensor([0.7000, 0.6000])
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    buffers: Sequence[Tensor | None] = ()
    clip: float | None = None
    dampening: float = 0.0
    nesterov: bool = False

    @torch.no_grad()
    def take(self, weights: Tensors, gradients: Tensors) -> None:
        """Move the weights in place."""
        factor = self._clipping(gradients)[0]
        for i, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            direction = gradient * factor + self.weight_decay * weight
            buffer = self._buffer(i)
            moved = direction if buffer is None else self.momentum * buffer + (1 - self.dampening) * direction
            weight.sub_(direction + self.momentum * moved if self.nesterov else moved, alpha=self.lr)

    @torch.no_grad()
    def derivative(self, direction: Tensors, gradients: Tensors) -> list[Tensor]:
        """The product of ``direction`` with the derivative of the step's length in the gradients, without ``-lr``.

        Args:
            direction: one tensor for each weight.
            gradients: of the training loss, before clipping.
        """
        factor, norm = self._clipping(gradients)
        along = 0.0 if norm is None else _dot(gradients, direction) / (norm * (norm + _TINY))
        return [
            self._share(i) * factor * (d - along * g) for i, (d, g) in enumerate(zip(direction, gradients, strict=True))
        ]

    def _clipping(self, gradients: Tensors) -> tuple[float, float | None]:
        """The factor of the gradients, and their norm if they are clipped."""
        if self.clip is None:
            return 1.0, None
        norm = _norm(gradients)
        return (self.clip / (norm + _TINY), norm) if norm + _TINY > self.clip else (1.0, None)

    def _buffer(self, i: int) -> Tensor | None:
        return self.buffers[i] if self.buffers else None

    def _share(self, i: int) -> float:
        """How much of its clipped gradient a weight moves by, in learning rates."""
        in_buffer = 1.0 if self._buffer(i) is None else 1 - self.dampening
        return 1 + self.momentum * in_buffer if self.nesterov else in_buffer


def unrolled_gradient(
    train_loss: Loss,
    val_loss: Loss,
    weights: Tensors,
    arch: Tensors,
    step: VirtualStep,
    *,
    mixed: Literal["difference", "exact"],
    epsilon: float = 0.01,
    scale: float = 1.0,
    average: Callable[[Tensors], Tensors] = lambda tensors: tensors,
) -> tuple[Tensor, list[Tensor]]:
    r"""Compute the validation loss after the virtual step, and its gradient in the architecture parameters.

    The weights are moved meanwhile and restored to the same bits afterwards.

    Args:
        train_loss: computes the training loss with the present values of weights and architecture parameters.
        val_loss: computes the validation loss in the same way.
        weights: leaves that require a gradient.
        arch: architecture parameters, leaves that require a gradient.
        step: the virtual step.
        mixed: the product of the mixed second derivative with v = J d by "difference", the paper's
            :math:`(\nabla_\alpha L(w + \epsilon v) - \nabla_\alpha L(w - \epsilon v)) / 2 \epsilon`, or
            "exact", by differentiating twice (every operation of the network must allow it).
        epsilon: step of the difference, divided by the norm of v; 0.01 in the paper.
        scale: losses are multiplied by it before each backward pass and gradients divided by it after, for half
            precision.
        average: averages gradients over all processes.

    Returns:
        The loss, and one gradient for each of ``arch``.
    """
    before = [weight.detach().clone() for weight in weights]

    def gradients_of(loss: Tensor, inputs: Tensors) -> Tensors:
        return average([g / scale for g in _grad(loss * scale, inputs)])

    with _constant(arch):
        taken = gradients_of(train_loss(), weights)
        step.take(weights, taken)
    loss = val_loss()
    gradients = gradients_of(loss, [*weights, *arch])
    direction, direct = step.derivative(gradients[: len(weights)], taken), gradients[len(weights) :]
    _put_back(weights, before)
    if mixed == "exact":
        first = _grad(train_loss(), weights, create_graph=True)
        second = gradients_of(_dot(first, direction), arch)
    else:
        size = epsilon / max(_norm(direction), 1e-12)
        sides = []
        with _constant(weights):
            for move in (size, -2 * size):
                torch._foreach_add_(list(weights), list(direction), alpha=move)
                sides.append(gradients_of(train_loss(), arch))
        second = [(above - below) / (2 * size) for above, below in zip(*sides, strict=True)]
        _put_back(weights, before)
    return loss.detach(), [g - step.lr * h for g, h in zip(direct, second, strict=True)]


@contextmanager
def _constant(leaves: Tensors) -> Iterator[None]:
    """Turn off their gradients: an ``autograd.Function`` computes all gradients that its inputs require."""
    for leaf in leaves:
        leaf.requires_grad_(False)
    try:
        yield
    finally:
        for leaf in leaves:
            leaf.requires_grad_(True)


def _grad(loss: Tensor, inputs: Tensors, *, create_graph: bool = False) -> list[Tensor]:
    """Gradients, zero where the loss does not depend on an input."""
    if not loss.requires_grad:
        return [torch.zeros_like(x) for x in inputs]
    gradients = torch.autograd.grad(loss, list(inputs), create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, gradients, strict=True)]


def _dot(a: Tensors, b: Tensors) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def _norm(tensors: Tensors) -> float:
    return float(torch.cat([tensor.flatten() for tensor in tensors]).norm())


@torch.no_grad()
def _put_back(weights: Tensors, before: Tensors) -> None:
    for weight, old in zip(weights, before, strict=True):
        weight.copy_(old)
