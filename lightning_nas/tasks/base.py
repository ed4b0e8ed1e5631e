"""Base class of tasks."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection

from lightning_nas.ops.outputs import output_of
from lightning_nas.ranges import Targets
from lightning_nas.signature import Checked

Batch = tuple[Any, Tensor]
"""A batch (x, y) as a network gets it: any input, e.g. a window with its hidden state, and the target (N, ...)."""


class Task(Checked, ABC):
    """Loss, metrics and score of a network.

    A subclass implements :meth:`loss` and :meth:`metrics`, and sets ``score_name`` and ``targets``. The test suite
    :class:`~lightning_nas.testing.tasks.TaskCase` proves it.

    Attributes:
        score_name: key of the metric that describes a network in results, e.g. ``acc`` for ``test_acc``.
        targets: what the data must hold. "classes": int64 (N,); "numbers": float32 (N, T), standardised by the training
            samples; "labels": float32 (N, T) of 0 and 1; "words": int64 (N, L). The output is (N, ..., num_classes),
            where num_classes is the number of classes, of words, or T. "masks": int64 (N, H, W), 255 for pixels without
            a class; the output is (N, num_classes, h, w).

    Example:
        >>> from torchmetrics import MeanAbsoluteError
        >>> class Absolute(Task):
        ...     score_name, targets = "mae", "numbers"
        ...     def loss(self, output, target):
        ...         return (output - target).abs().mean()
        ...     def metrics(self, num_classes, *, synced=True):
        ...         return MetricCollection({"mae": MeanAbsoluteError(sync_on_compute=synced)})
        ...     def reward(self, figure):
        ...         return 1 / (1 + figure)
        ...     def score(self, network, batches, num_classes):
        ...         return self.reward(self.evaluate(network, batches, num_classes))
        >>> float(Absolute().loss(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]])))
        2.0
    """

    score_name: ClassVar[str]
    targets: ClassVar[Targets] = "classes"

    def check(self, num_classes: int) -> None:
        """Refuse settings that do not fit data of so many classes, before anything is trained; by default none.

        Raises:
            InputError: names the setting.
        """

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of a batch, a scalar to minimise.

        Args:
            output: of the network, (N, ..., num_classes).
            target: (N, ...).
        """

    def training_loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Loss of a weights step, with regularisation; ``output`` is the network's for ``batch``."""
        return self.loss(output, batch[1])

    @abstractmethod
    def metrics(self, num_classes: int, *, synced: bool = True) -> MetricCollection:
        """New metrics by short name (``acc``, ...), updated with (output, target).

        Args:
            num_classes: width of the output.
            synced: compute over the batches of all processes; else over those of this process.
        """

    def unit_metrics(self) -> MetricCollection:
        """Metrics of the test in the unit of the targets, updated with (output, target) in that unit, float64.

        Only for targets that are numbers; by default none.
        """
        return MetricCollection({})

    def imitation_loss(self, output: Tensor, taught: Tensor) -> Tensor:
        """Loss of a network that learns the output of another, by default the cross entropy with its probabilities.

        Args:
            output: (N, ..., num_classes).
            taught: of the other network, of the same shape, without gradient.
        """
        return F.cross_entropy(output.flatten(0, -2), taught.flatten(0, -2).softmax(-1))

    # -- memory from batch to batch -----------------------------------------------------------------------------

    def continued(self, x: Any, before: Tensor | None) -> Any:
        """``x`` together with the memory ``before`` of the batch before; by default ``x`` alone."""
        del before
        return x

    def remembered(self, x: Any) -> Tensor | None:
        """The memory of a network after reading ``x`` of :meth:`continued`; None if there is none."""
        del x
        return None

    # -- scores -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, network: nn.Module, batches: Iterable[Batch], num_classes: int) -> float:
        """The metric ``score_name`` of a network on batches in order.

        Sets eval mode and restores the mode afterwards. Does not communicate with other processes, so that one process
        may score alone.
        """
        device = next(network.parameters()).device
        metrics, training = self.metrics(num_classes, synced=False).to(device), network.training
        network.eval()
        memory = None
        for x, y in batches:
            x = self.continued(x.to(device), memory)
            metrics.update(output_of(network, x), y.to(device))
            memory = self.remembered(x)
        network.train(training)
        return float(metrics.compute()[self.score_name])

    def score(self, network: nn.Module, batches: Iterable[Batch], num_classes: int) -> float:
        """Score that architectures are ranked by, higher is better; by default the metric ``score_name``."""
        return self.evaluate(network, batches, num_classes)

    def score_error(self, score: float, samples: int) -> float | None:
        """Standard error of a score that was taken on so many samples; None where it is not known."""
        del score, samples
        return None

    def reward(self, figure: float) -> float:
        """Reward of a value of the metric ``score_name``: of the order of 1, higher is better."""
        return figure
