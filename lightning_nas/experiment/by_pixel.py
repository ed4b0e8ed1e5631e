"""Test figures of segmentation: of all pixels, of each class, and of the most frequent class everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.data.module import ImageData
from lightning_nas.errors import InputError
from lightning_nas.ops.outputs import logits_of
from lightning_nas.ranges import UNLABELLED
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.tasks.segmentation import Segmentation, resized


def figures_of_masks(task: Task, network: nn.Module, data: Any) -> dict[str, Any]:
    """The figures of ``result.json`` of a network on the test part.

    ``test_NAME`` for each metric of the task; the one named by ``score_name`` is first and comes from the task's
    ``evaluate``. ``classes`` has name, test pixels and intersection over union of each class (None where neither a
    mask nor an answer has it); ``majority_miou`` and ``majority_pixel_acc`` are those of the class with the most
    training pixels, answered everywhere.

    Args:
        task: with targets that are masks.
        network: to test.
        data: images, set up; their test part is read once.

    Raises:
        InputError: the data are no images.
    """
    if not isinstance(data, ImageData):
        raise InputError(f"segmentation is tested on images with masks; got {type(data).__name__}")
    metrics = task.metrics(data.num_classes, synced=False)
    matrix = torch.zeros(data.num_classes**2, dtype=torch.int64)
    ignored, corners = (task.ignore_index, task.align_corners) if isinstance(task, Segmentation) else (255, False)
    true = list[Tensor]()

    def watched() -> Iterator[Batch]:
        for x, y in data.evaluation_loader("test"):
            true[:] = [y.cpu()]
            yield x, y

    def count(module: nn.Module, given: Any, output: Any) -> None:
        logits, mask = logits_of(output).detach().cpu(), true[0]
        metrics.update(logits, mask)
        said = resized(logits, mask.shape[-2:], align_corners=corners).argmax(1)
        counts = (mask != UNLABELLED) & (mask != ignored)
        pairs = mask[counts] * data.num_classes + said[counts]
        matrix.add_(torch.bincount(pairs, minlength=data.num_classes**2))

    handle = network.register_forward_hook(count)
    try:
        score = task.evaluate(network, watched(), data.num_classes)
    finally:
        handle.remove()
    figures = {task.score_name: score} | {name: float(value) for name, value in metrics.compute().items()}
    figures[task.score_name] = score
    named = {f"test_{name}": value for name, value in figures.items()}
    return named | described(matrix.reshape(data.num_classes, -1), data.preprocessing().classes, data.majority)


def described(matrix: Tensor, names: list[str], majority: int) -> dict[str, Any]:
    """Figures of a confusion matrix (K, K) of pixels, rows true and columns answers, by the names of ``result.json``.

    Example:
        >>> found = described(torch.tensor([[6, 2], [1, 1]]), ["road", "sky"], majority=0)
        >>> round(found["classes"][0]["iou"], 4), found["majority_miou"], found["majority_pixel_acc"]
        (0.6667, 0.4, 0.8)
    """
    right, true, said = (part.tolist() for part in (matrix.diagonal(), matrix.sum(1), matrix.sum(0)))
    whole, present = sum(true), sum(count > 0 for count in true)
    classes = [
        {"name": name, "pixels": count, "iou": hit / union if (union := count + answers - hit) else None}
        for name, count, answers, hit in zip(names, true, said, right, strict=True)
    ]
    share = true[majority] / max(1, whole)
    answered = present + (true[majority] == 0)  # classes that a mask or the answer has
    return {
        "majority_miou": share / max(1, answered),
        "majority_pixel_acc": share,
        "classes": classes,
    }
