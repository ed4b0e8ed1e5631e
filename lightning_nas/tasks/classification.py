"""Image classification."""

from typing import Annotated

from annotated_types import Interval
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lightning_nas.tasks.base import Task


class Classification(Task):
    """Cross entropy with label smoothing; accuracy over all images, top-1 (``acc``) and top-5 (``acc_top5``).

    Args:
        label_smoothing: share of the target spread over all classes (Szegedy et al., 2016, arXiv:1512.00567).
    """

    score_name = "acc"

    def __init__(self, label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, label_smoothing=self.label_smoothing)

    def metrics(self, num_classes: int, *, synced: bool = True) -> MetricCollection:
        top = {"acc": 1} | ({"acc_top5": 5} if num_classes > 5 else {})
        made: dict[str, Metric | MetricCollection] = {
            name: MulticlassAccuracy(num_classes, top_k=k, average="micro", sync_on_compute=synced)
            for name, k in top.items()
        }
        return MetricCollection(made, compute_groups=False)
