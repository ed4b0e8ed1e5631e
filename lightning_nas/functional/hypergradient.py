r"""Gradient of a validation loss with respect to architecture parameters, through one step of the weights.

Liu et al., ICLR 2019, arXiv:1806.09055, section 2.3. With
:math:`w' = w - \xi (\mu b + \nabla_w L_{train}(w, \alpha) + \lambda w)` and
:math:`d = \nabla_{w'} L_{val}(w', \alpha)`,

.. math:: \frac{d L_{val}(w'(\alpha), \alpha)}{d \alpha} =
          \nabla_\alpha L_{val}(w', \alpha) - \xi \, \nabla^2_{\alpha, w} L_{train}(w, \alpha) \, d.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Loss = Callable[[], Tensor]
Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class VirtualStep:
    """Virtual step of SGD with momentum and weight decay.

    Attributes:
        lr: learning rate.
        momentum: factor of the momentum buffers.
        weight_decay: factor of the L2 penalty.
        buffers: momentum buffers of the weights, None for weights without one; empty for SGD without momentum.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    buffers: Sequence[Tensor | None] = ()

    @torch.no_grad()
    def take(self, weights: Tensors, gradients: Tensors) -> None:
        """Move the weights in place."""
        for i, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            direction = gradient + self.weight_decay * weight
            buffer = self.buffers[i] if self.buffers else None
            if buffer is not None:
                direction += self.momentum * buffer
            weight.sub_(direction, alpha=self.lr)


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
        mixed: the product of the mixed second derivative with d by "difference", the paper's
            :math:`(\nabla_\alpha L(w + \epsilon d) - \nabla_\alpha L(w - \epsilon d)) / 2 \epsilon`, or
            "exact", by differentiating twice (every operation of the network must allow it).
        epsilon: step of the difference, divided by the norm of d; 0.01 in the paper.
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
        step.take(weights, gradients_of(train_loss(), weights))
    loss = val_loss()
    gradients = gradients_of(loss, [*weights, *arch])
    direction, direct = gradients[: len(weights)], gradients[len(weights) :]
    _put_back(weights, before)
    if mixed == "exact":
        first = _grad(train_loss(), weights, create_graph=True)
        second = gradients_of(_dot(first, direction), arch)
    else:
        size = epsilon / float(torch.cat([d.flatten() for d in direction]).norm().clamp_min(1e-12))
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


@torch.no_grad()
def _put_back(weights: Tensors, before: Tensors) -> None:
    for weight, old in zip(weights, before, strict=True):
        weight.copy_(old)
