"""Image classification."""

import math
from typing import Annotated

from annotated_types import Interval
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lightning_nas.tasks.base import Task


class Classification(Task):
    r"""Image classification: cross entropy with label smoothing, top-1 (``acc``) and top-5 (``acc_top5``) accuracy.

    .. math:: L = -\sum_{c=1}^{C} \Big((1 - s)\,[c = y] + \frac{s}{C}\Big) \log p_c

    Outputs are logits (N, C), targets int64 (N,) from 0 to C - 1. Accuracy is the share of all images, so classes count
    by their frequency; top-5 is computed for more than 5 classes. Architectures are ranked by ``acc``, from 0 to 1.

    Args:
        label_smoothing: s, the share of the target that is spread over all classes, 0 to below 1 (Szegedy et al., 2016,
            arXiv:1512.00567).

    Example:
        >>> import torch
        >>> task = Classification(label_smoothing=0.1)
        >>> logits, target = torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0])
        >>> round(float(task.loss(logits, target)), 3)
        4.5
        >>> metrics = task.metrics(num_classes=2)
        >>> metrics.update(logits, target)
        >>> float(metrics.compute()["acc"])
        0.5
    """

    score_name = "acc"

    def __init__(self, label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, label_smoothing=self.label_smoothing)

    def score_error(self, score: float, samples: int) -> float:
        r"""That of a share, :math:`\sqrt{p (1 - p) / n}`.

        >>> Classification().score_error(0.5, 100)
        0.05
        """
        return math.sqrt(score * (1 - score) / samples)

    def metrics(self, num_classes: int, *, synced: bool = True) -> MetricCollection:
        top = {"acc": 1} | ({"acc_top5": 5} if num_classes > 5 else {})
        made: dict[str, Metric | MetricCollection] = {
            name: MulticlassAccuracy(num_classes, top_k=k, average="micro", sync_on_compute=synced)
            for name, k in top.items()
        }
        return MetricCollection(made, compute_groups=False)
