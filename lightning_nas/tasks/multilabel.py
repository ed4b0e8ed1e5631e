"""Multi-label classification: yes or no for each of several labels."""

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection
from torchmetrics.functional.classification import binary_average_precision, binary_f1_score
from torchmetrics.utilities import dim_zero_cat

from lightning_nas.errors import InputError
from lightning_nas.tasks.base import Batch, Task


class LabelMean(Metric):
    """The mean over labels of a figure of each, from logits and targets (N, T).

    torchmetrics' metrics of several labels cannot be used as they are: they take logits that all lie between 0 and 1
    for probabilities, batch by batch, and count a label without positive samples as 0.
    """

    full_state_update = False
    logits: list[Tensor]
    target: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    def update(self, output: Tensor, target: Tensor) -> None:
        self.logits.append(output.detach().float())
        self.target.append(target.long())

    def compute(self) -> Tensor:
        logits, target = dim_zero_cat(self.logits), dim_zero_cat(self.target)
        known = [self.of(*pair) for pair in zip(logits.sigmoid().unbind(1), target.unbind(1), strict=True)]
        figures = [figure for figure in known if figure is not None]
        if not figures or bool(logits.isnan().any()):
            return torch.full((), math.nan, device=logits.device)
        return torch.stack(figures).mean()

    @staticmethod
    @abstractmethod
    def of(probabilities: Tensor, target: Tensor) -> Tensor | None:
        """The figure of one label, both (N,); None for a label that does not count."""


class MeanAveragePrecision(LabelMean):
    """Mean average precision of the labels that have positive samples; NaN without any, or for logits that are NaN.

    >>> metric = MeanAveragePrecision()
    >>> metric.update(torch.tensor([[2.0, 0.1], [1.0, 0.2], [0.5, 0.3]]), torch.tensor([[1, 0], [0, 0], [1, 0]]))
    >>> round(float(metric.compute()), 4)
    0.8333
    """

    @staticmethod
    def of(probabilities: Tensor, target: Tensor) -> Tensor | None:
        return binary_average_precision(probabilities, target) if bool(target.any()) else None


class MeanF1(LabelMean):
    """Mean over all labels of F1 at a probability of 1/2; 0 for a label without positive samples and answers.

    >>> metric = MeanF1()
    >>> metric.update(torch.tensor([[0.3], [0.2], [-1.0]]), torch.tensor([[1], [0], [0]]))
    >>> round(float(metric.compute()), 4)
    0.6667
    """

    @staticmethod
    def of(probabilities: Tensor, target: Tensor) -> Tensor:
        return binary_f1_score(probabilities, target)


class MultiLabel(Task):
    r"""Multi-label classification: binary cross entropy, mean average precision (``map``) and F1 (``f1``).

    .. math:: L = -\frac{1}{NT} \sum_{n, t} \big(y_{nt} \log p_{nt} + (1 - y_{nt}) \log(1 - p_{nt})\big), \qquad
              p_{nt} = \frac{1}{1 + e^{-o_{nt}}}

    Outputs are logits (N, T), targets 0 or 1 (N, T), several or none of them 1. ``map`` is the mean over labels of the
    area under precision and recall, whatever the threshold; ``f1`` the mean over labels of F1 at a probability of 1/2.
    Architectures are ranked by ``map``, from 0 to 1: unlike the share of right answers it is not high for a network
    that says no to every rare label. A label without positive samples does not count in it.

    Example:
        >>> task = MultiLabel()
        >>> round(float(task.loss(torch.zeros(2, 3), torch.ones(2, 3))), 4)
        0.6931
    """

    score_name = "map"
    targets = "labels"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if output.shape != target.shape:
            raise InputError(
                f"the network gives {tuple(output.shape)} for targets {tuple(target.shape)}; several labels need one "
                "logit for each"
            )
        return F.binary_cross_entropy_with_logits(output, target.to(output.dtype))

    def imitation_loss(self, output: Tensor, taught: Tensor) -> Tensor:
        """Binary cross entropy with the other network's probabilities."""
        return F.binary_cross_entropy_with_logits(output, taught.sigmoid())

    def metrics(self, num_classes: int, *, synced: bool = True) -> MetricCollection:
        made: dict[str, Metric | MetricCollection] = {
            "map": MeanAveragePrecision(sync_on_compute=synced),
            "f1": MeanF1(sync_on_compute=synced),
        }
        return MetricCollection(made, compute_groups=False)

    def score(self, network: nn.Module, batches: Iterable[Batch], num_classes: int) -> float:
        """The network's ``map``; 0 where it is not a number."""
        return self.reward(self.evaluate(network, batches, num_classes))

    def reward(self, figure: float) -> float:
        """``map``; 0 for NaN, such as that of a batch without any label."""
        return 0.0 if math.isnan(figure) else figure
