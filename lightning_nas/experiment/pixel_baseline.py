"""A linear classifier of the pixels: the accuracy that a network has to beat."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_nas.data.module import ImageData

_MOST_IN_MEMORY, _MOST_READ = 10_000, 2_000  # images of each part
_SIDE = 16  # of the pooled images, 8 where there are many classes
_MANY_CLASSES = 100
_ITERATIONS = 100


def pixel_baseline(data: ImageData) -> tuple[float, int, int]:
    """Accuracy of multinomial logistic regression on the pixels of test images.

    It is trained on up to 10,000 images of the weights and arch parts together, without augmentation (2,000 where
    images are read one by one), and tested on as many of the test part. Images are averaged down to 16 x 16 pixels
    (8 x 8 for more than 100 classes). Nothing in it is random.

    Returns:
        The accuracy, and the numbers of training and test images.
    """
    most = _MOST_IN_MEMORY if data.in_memory else _MOST_READ
    side = 8 if data.num_classes > _MANY_CLASSES else _SIDE
    (x, y), (x_test, y_test) = (data.looked_at(name, most) for name in ("retrain", "test"))
    said = logistic_regression(_features(x, side), y, _features(x_test, side), data.num_classes)
    return float((said == y_test).double().mean()), len(y), len(y_test)


def _features(images: Tensor, side: int) -> Tensor:
    """Pixels (N, F) of images (N, C, H, W), averaged down to at most ``side`` in each direction."""
    height, width = (min(side, size) for size in images.shape[-2:])
    return F.adaptive_avg_pool2d(images, (height, width)).flatten(1).double()


def logistic_regression(x: Tensor, y: Tensor, x_test: Tensor, num_classes: int) -> Tensor:
    r"""Classes (M,) that multinomial logistic regression gives ``x_test`` (M, F) after training on ``x`` (N, F).

    .. math:: \min_{W, b} \sum_n \mathrm{CE}(W x_n + b, y_n) + \tfrac12 \lVert W \rVert^2

    Features are standardised on ``x``; minimised by L-BFGS from zero (Liu & Nocedal, 1989).

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> logistic_regression(x, torch.tensor([0, 0, 1, 1]), torch.tensor([[-1.0], [4.0]]), 2).tolist()
        [0, 1]
    """
    mean, std = x.mean(0), x.std(0, correction=0)
    std = torch.where(std > 0, std, 1.0)
    x, x_test = (x - mean) / std, (x_test - mean) / std
    weight = torch.zeros(x.shape[1], num_classes, dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, y) + weight.square().sum() / (2 * len(x))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (x_test @ weight.detach() + bias.detach()).argmax(1)
