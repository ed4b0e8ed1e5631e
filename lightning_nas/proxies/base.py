"""What scores have in common: their contract, the copy that they work on, and its layers with weights."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from lightning_nas.errors import InputError
from lightning_nas.signature import Checked
from lightning_nas.training.seeding import seeded

Loss = Callable[[Tensor, Tensor], Tensor]
"""Loss of a batch, a scalar, from outputs (N, ..., classes) and targets (N, ...)."""


class Proxy(Checked, ABC):
    """A score of a network without training, as an object that holds the settings of a pure function."""

    @abstractmethod
    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        """Score a network; the higher, the better it should be.

        Args:
            network: any network of images; it is left as it was.
            batch: images (N, C, H, W) and their targets.
            loss: of the task.
            rng: of all random numbers, on the CPU.

        Returns:
            NaN or an infinity where the score is not defined.
        """


@contextmanager
def copied(network: nn.Module, seed: int = 0) -> Iterator[nn.Module]:
    """A copy of a network in training mode, with gradients of all parameters and none stored.

    Inside the context gradients are on, and the global generators are seeded, for layers such as dropout; they are
    restored afterwards.

    >>> layer = nn.Linear(2, 1)
    >>> with copied(layer) as other:
    ...     _ = other.weight.data.zero_()
    >>> bool(layer.weight.any())
    True
    """
    made = copy.deepcopy(network).train()
    for parameter in made.parameters():
        parameter.grad = None
        parameter.requires_grad_(parameter.is_floating_point())
    with seeded(seed, "proxy"), torch.enable_grad():
        yield made


def placed(network: nn.Module, x: Tensor) -> Tensor:
    """``x`` on the device of the network's parameters."""
    return x.to(next(network.parameters(), x).device)


def weighted_layers(network: nn.Module) -> list[_ConvNd | nn.Linear]:
    """The convolutions and linear layers in the order of definition; of those that share a weight the first.

    Raises:
        InputError: there is none.
    """
    found = {id(m.weight): m for m in reversed(list(network.modules())) if isinstance(m, (_ConvNd, nn.Linear))}
    if not found:
        raise InputError(f"{type(network).__name__} has no convolution and no linear layer, which scores are made of")
    return list(reversed(found.values()))


def weight_gradients(network: nn.Module, value: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each layer's weight with the gradient of ``value``, which is zero where it does not depend on the weight."""
    weights = [layer.weight for layer in weighted_layers(network)]
    gradients = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
    return [(weight.detach(), gradient) for weight, gradient in zip(weights, gradients, strict=True)]


def without_batch_norm(network: nn.Module) -> nn.Module:
    """Let every batch norm of a network give what it gets."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.forward = lambda input: input  # type: ignore[method-assign]  # noqa: A006
    return network
