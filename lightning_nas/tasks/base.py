"""What a strategy and a child need to know of the thing a network is trained for."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

Batch = tuple[Any, Tensor]
"""What a network is fed, and the target (N, ...)."""


class Task(ABC):
    """Loss and figures of merit.

    Attributes:
        score_name: the key of the figure that is told of a network, ``test_acc`` in its result if it is ``acc``.
    """

    score_name: ClassVar[str]

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """A scalar to minimise."""

    def training_loss(self, output: Tensor, batch: Batch) -> Tensor:
        """The loss of a step of weights, with what regularises them; ``output`` is the network's for ``batch``."""
        return self.loss(output, batch[1])

    @abstractmethod
    def metrics(self, num_classes: int, *, synced: bool = True) -> MetricCollection:
        """Fresh metrics by short name (``acc``, ...); updated with (output, target).

        Args:
            num_classes: width of the output.
            synced: computed over what all processes saw, and not over what this one saw.
        """

    # -- what goes on from batch to batch -----------------------------------------------------------------------

    def continued(self, x: Any, before: Tensor | None) -> Any:
        """``x`` as a network is fed it that remembers ``before``; by default nothing is remembered."""
        del before
        return x

    def remembered(self, x: Any) -> Tensor | None:
        """What a network remembers after reading ``x`` of :meth:`continued`; None if it read nothing."""
        del x
        return None

    # -- figures ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Iterable[Batch], num_classes: int) -> float:
        """The figure ``score_name`` of a network on batches in order, in eval mode; the mode is put back afterwards.

        Never talks to other processes: one of them may score alone.
        """
        device = next(network.parameters()).device
        metrics, training = self.metrics(num_classes, synced=False).to(device), network.training
        network.eval()
        memory = None
        for x, y in batches:
            x = self.continued(x.to(device), memory)
            metrics.update(network(x), y.to(device))
            memory = self.remembered(x)
        network.train(training)
        return float(metrics.compute()[self.score_name])

    def score(self, network: nn.Module, batches: Iterable[Batch], num_classes: int) -> float:
        """What architectures are ranked by, higher is better: the figure itself, unless a task says otherwise."""
        return self.evaluate(network, batches, num_classes)

    def reward(self, figure: float) -> float:
        """What a figure ``score_name`` is worth as a reward to learn by: of the size of 1, higher is better."""
        return figure
