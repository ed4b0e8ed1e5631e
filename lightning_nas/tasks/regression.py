"""Regression: one or many numbers of a sample."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection, R2Score

from lightning_nas.errors import InputError
from lightning_nas.tasks.base import Batch, Task


class Determination(R2Score):
    """torchmetrics' ``R2Score``, the mean over targets; NaN for fewer than two samples, where that one raises.

    >>> metric = Determination()
    >>> metric.update(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]]))
    >>> float(metric.compute())
    0.5
    """

    def compute(self) -> Tensor:
        return super().compute() if int(self.total) > 1 else torch.full_like(self.residual.sum(), math.nan)


class Regression(Task):
    r"""Regression: mean squared error of the standardised targets, and the share of variance explained (``r2``).

    .. math:: L = \frac{1}{NT} \sum_{n, t} (o_{nt} - z_{nt})^2, \qquad z_{nt} = \frac{y_{nt} - \mu_t}{\sigma_t}, \qquad
              R^2 = \frac{1}{T} \sum_t \Big(1 - \frac{\sum_n (o_{nt} - z_{nt})^2}{\sum_n (z_{nt} - \bar z_t)^2}\Big)

    Outputs and targets are (N, T). The data standardise each target by its mean :math:`\mu_t` and standard deviation
    :math:`\sigma_t` over the training samples, so that the targets weigh the same whatever their units. ``r2`` has no
    unit: 1 is exact, 0 as good as the mean of the targets. The test also gives the mean squared and the mean absolute
    error in the targets' own unit (``mse``, ``mae``; means over targets).

    Architectures are ranked by :math:`1 / (2 - R^2)`, which is the share of the targets' sum of squares in itself and
    the error's together: the order is that of :math:`R^2`, and it is from 0 to 1 like the other tasks' scores, while
    :math:`R^2` of a bad network has no lower bound, so that a single one would decide means, spreads and gradients of
    controllers. An error as large as the targets' spread has 0.5. It is 0 for a network whose output is not a number.

    Example:
        >>> task = Regression()
        >>> output, target = torch.zeros(2, 1), torch.tensor([[1.0], [-1.0]])
        >>> float(task.loss(output, target)), task.reward(0.0), task.reward(1.0)
        (1.0, 0.5, 1.0)
    """

    score_name = "r2"
    targets = "numbers"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if output.shape != target.shape:
            raise InputError(
                f"the network gives {tuple(output.shape)} for targets {tuple(target.shape)}; regression needs one "
                "number for each target"
            )
        return F.mse_loss(output, target)

    def imitation_loss(self, output: Tensor, taught: Tensor) -> Tensor:
        """Mean squared difference of the outputs."""
        return F.mse_loss(output, taught)

    def metrics(self, num_classes: int, *, synced: bool = True) -> MetricCollection:
        return MetricCollection({"r2": Determination(sync_on_compute=synced)}, compute_groups=False)

    def unit_metrics(self) -> MetricCollection:
        """``mse`` and ``mae``."""
        made = {"mse": MeanSquaredError(sync_on_compute=False), "mae": MeanAbsoluteError(sync_on_compute=False)}
        return MetricCollection({**made}, compute_groups=False)

    def score(self, network: nn.Module, batches: Iterable[Batch], num_classes: int) -> float:
        """The :meth:`reward` of the network's ``r2``."""
        return self.reward(self.evaluate(network, batches, num_classes))

    def reward(self, figure: float) -> float:
        """1 / (2 - R2), from 0 to 1; 0 for NaN."""
        return 0.0 if math.isnan(figure) else 1 / (2 - figure)
