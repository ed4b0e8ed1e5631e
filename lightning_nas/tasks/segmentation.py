"""Semantic segmentation: a class for each pixel."""

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from annotated_types import Interval, MinLen
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from lightning_nas.errors import InputError
from lightning_nas.ranges import UNLABELLED
from lightning_nas.tasks.base import Batch, Task


def resized(logits: Tensor, size: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """Logits (N, K, h, w), bilinear in between, at the height and width of ``size``.

    >>> import torch
    >>> resized(torch.tensor([[[[0.0, 1.0]]]]), (1, 3), align_corners=True).tolist()
    [[[[0.0, 0.5, 1.0]]]]
    """
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    made: Tensor = F.interpolate(logits, tuple(size), mode="bilinear", align_corners=align_corners)
    return made


class _OfPixels:
    """What a metric of pixels has beside the metric itself: logits are resized to the masks."""

    align_corners: bool = False
    ignore_index: int | None

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count the pixels of logits (N, K, h, w) and masks (N, H, W); the unlabelled do not count."""
        said = resized(preds, target.shape[-2:], align_corners=self.align_corners).argmax(1)
        target = target.masked_fill(target == UNLABELLED, self.ignore_index)  # type: ignore[arg-type]
        super().update(said, target)  # type: ignore[misc]


class MeanIoU(_OfPixels, MulticlassJaccardIndex):
    """torchmetrics' ``MulticlassJaccardIndex``, the mean over the classes that a mask or an answer has.

    >>> import torch
    >>> metric = MeanIoU(3, ignore_index=255)
    >>> metric.update(torch.eye(3)[:, [0, 1, 1, 0]].reshape(1, 3, 2, 2), torch.tensor([[[0, 0], [1, 255]]]))
    >>> float(metric.compute())
    0.5
    """


class PixelAccuracy(_OfPixels, MulticlassAccuracy):
    """torchmetrics' ``MulticlassAccuracy``, the share of the labelled pixels whose class is right."""


class Segmentation(Task):
    r"""Semantic segmentation: cross entropy by pixel, mean intersection over union (``miou``), ``pixel_acc``.

    .. math:: L = \frac{\sum_{i \in P} w_{y_i} \cdot (-\log p_{i, y_i})}{\sum_{i \in P} w_{y_i}}, \qquad
              \mathrm{mIoU} = \frac{1}{|C|} \sum_{c \in C}
              \frac{\mathrm{TP}_c}{\mathrm{TP}_c + \mathrm{FP}_c + \mathrm{FN}_c}

    Outputs are logits (N, K, h, w) of any height and width; they are resized to the masks, bilinear. Targets are int64
    (N, H, W), classes from 0 to K - 1. Pixels with 255, and those with ``ignore_index``, count in neither loss nor
    metrics. P holds the labelled pixels of the batch, or the ``hardest`` of them. C holds the classes that a mask or an
    answer has. Architectures are ranked by ``miou``, from 0 to 1: unlike the share of right pixels it is not high for a
    network that sees the background alone.

    Source: mIoU is that of PASCAL VOC (Everingham et al., IJCV 2010, section 4.2), over all test pixels together; the
    mean over the hardest pixels is online hard example mining as bootstrapped cross entropy (Wu et al., 2016,
    arXiv:1605.06885) and DeepLab (``top_k_percent_pixels``) have it.

    Args:
        ignore_index: value of pixels that do not count; 255 does not either way.
        class_weights: w, one for each class; None weighs all the same.
        hardest: share of the labelled pixels of a batch, those with the highest loss, that the loss is the mean of; 1
            for all.
        align_corners: resize so that the corners of logits and mask meet, as DeepLab does for sizes of 16 n + 1.

    Raises:
        InputError: in the loss, if a network gives no class for each pixel, or there are more or fewer weights than
            classes.

    Example:
        >>> import torch
        >>> task = Segmentation()
        >>> logits, masks = torch.zeros(1, 4, 2, 2), torch.tensor([[[0, 1, 2, 3], [255, 255, 255, 255]]])
        >>> round(float(task.loss(logits, masks)), 4)
        1.3863
        >>> metrics = task.metrics(num_classes=4)
        >>> metrics.update(logits, masks)
        >>> {name: float(value) for name, value in metrics.compute().items()}
        {'miou': 0.0625, 'pixel_acc': 0.25}
    """

    score_name = "miou"
    targets = "masks"

    def __init__(
        self,
        ignore_index: Annotated[NonNegativeInt, Interval(le=UNLABELLED)] = UNLABELLED,
        class_weights: Annotated[Sequence[PositiveFloat], MinLen(1)] | None = None,
        hardest: Annotated[float, Interval(gt=0, le=1)] = 1.0,
        align_corners: bool = False,
    ) -> None:
        self.ignore_index, self.hardest, self.align_corners = ignore_index, hardest, align_corners
        self.class_weights = None if class_weights is None else list(class_weights)

    def check(self, num_classes: int) -> None:
        """Refuse another number of weights than of classes."""
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise InputError(
                f"task.class_weights has {len(self.class_weights)} values, but there are {num_classes} classes; legal: "
                "one for each, or null"
            )

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if output.ndim != 4 or target.ndim != 3 or len(output) != len(target):
            raise InputError(
                f"the network gives {tuple(output.shape)} for masks {tuple(target.shape)}; segmentation needs logits "
                "(N, classes, height, width), such as those of search_space=dpc_small"
            )
        self.check(output.shape[1])
        weights = None if self.class_weights is None else output.new_tensor(self.class_weights)
        logits = resized(output, target.shape[-2:], align_corners=self.align_corners)
        known = (target != UNLABELLED) & (target != self.ignore_index)
        target = target.masked_fill(~known, 0)
        # by gather: the cross entropy of images has no deterministic form on a GPU
        losses = -F.log_softmax(logits, 1).gather(1, target[:, None])[:, 0]
        shares = known.to(losses.dtype) if weights is None else weights[target] * known
        losses = losses * shares
        if self.hardest < 1 and (count := int(known.sum())):
            chosen = losses[known].topk(max(1, round(self.hardest * count))).indices
            losses, shares = losses[known][chosen], shares[known][chosen]
        return losses.sum() / shares.sum().clamp_min(1e-12)  # 0 for a batch without a labelled pixel

    def imitation_loss(self, output: Tensor, taught: Tensor) -> Tensor:
        """Cross entropy with the other network's probabilities, by pixel."""
        return F.cross_entropy(output, taught.softmax(1))

    def metrics(self, num_classes: int, *, synced: bool = True) -> MetricCollection:
        options: dict[str, Any] = {"ignore_index": self.ignore_index, "sync_on_compute": synced}
        made: dict[str, Metric | MetricCollection] = {
            "miou": MeanIoU(num_classes, **options),
            "pixel_acc": PixelAccuracy(num_classes, average="micro", **options),
        }
        for metric in made.values():
            metric.align_corners = self.align_corners
        return MetricCollection(made, compute_groups=False)

    def score(self, network: nn.Module, batches: Iterable[Batch], num_classes: int) -> float:
        """The network's ``miou``; 0 where it is not a number."""
        return self.reward(self.evaluate(network, batches, num_classes))

    def reward(self, figure: float) -> float:
        """``miou``; 0 for NaN, such as that of a batch without a labelled pixel."""
        return 0.0 if math.isnan(figure) else figure
