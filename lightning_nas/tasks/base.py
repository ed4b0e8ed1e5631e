"""What a strategy and a child need to know of the thing a network is trained for."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

Batch = tuple[Tensor, Tensor]


class Task(ABC):
    """Loss and figures of merit.

    Attributes:
        score_name: the key of the figure architectures are ranked by; higher is better.
    """

    score_name: ClassVar[str]

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """A scalar to minimise."""

    @abstractmethod
    def metrics(self, num_classes: int, *, synced: bool = True) -> MetricCollection:
        """Fresh metrics by short name (``acc``, ...); updated with (output, target).

        Args:
            num_classes: width of the output.
            synced: computed over what all processes saw, and not over what this one saw.
        """

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Iterable[Batch], num_classes: int) -> float:
        """The score of a network on some batches, in eval mode; the mode is put back afterwards.

        Never talks to other processes: one of them may score alone.
        """
        device = next(network.parameters()).device
        metrics, training = self.metrics(num_classes, synced=False).to(device), network.training
        network.eval()
        for x, y in batches:
            metrics.update(network(x.to(device)), y.to(device))
        network.train(training)
        return float(metrics.compute()[self.score_name])
