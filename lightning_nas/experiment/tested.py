"""Figures of the test, and what a test accuracy is compared with: each class, the largest alone, a linear model."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_nas.data.module import ImageData
from lightning_nas.errors import InputError
from lightning_nas.experiment.by_pixel import figures_of_masks
from lightning_nas.experiment.by_target import figures_of_test
from lightning_nas.experiment.folder import is_first_process
from lightning_nas.experiment.pixel_baseline import pixel_baseline
from lightning_nas.experiment.predictions import FILE as PREDICTIONS
from lightning_nas.experiment.predictions import save_predictions
from lightning_nas.files import read_json, write_json
from lightning_nas.ops.outputs import logits_of
from lightning_nas.tasks.base import Batch

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run

log = logging.getLogger(__name__)

_MOST_IN_MATRIX = 30  # classes


def tested(run: Run, network: nn.Module) -> tuple[float, dict[str, Any]]:
    """The score of a network on the test part, and the figures of ``result.json`` that explain it.

    Reads the test part once, all of it in every process; computes the baseline in the first process alone, once for a
    folder and its data.
    """
    if run.task.targets in ("numbers", "labels"):
        return _of_targets(run, network)
    if run.task.targets == "masks":
        return _of_masks(run, network)
    data, batches = run.data, run.data.evaluation_loader("test")
    if not isinstance(data, ImageData) or run.task.score_name != "acc":
        return run.task.evaluate(network, batches, data.num_classes), {}
    with confusion(network, batches, data.num_classes) as (watched, matrix):
        score = run.task.evaluate(network, watched, data.num_classes)
    figures = described(matrix, data.class_names, data.majority)
    if is_first_process():
        figures["baseline_acc"] = _baseline(run.folder, data)
    accuracy = int(matrix.trace()) / max(1, int(matrix.sum()))
    if accuracy <= figures["majority_share"]:
        run.warn(
            f"the test accuracy of {accuracy:.2%} is not above the share of the largest class, "
            f"{figures['majority_share']:.2%}: the network tells no classes apart"
        )
    return score, figures


def _of_targets(run: Run, network: nn.Module) -> tuple[float, dict[str, Any]]:
    """As :func:`tested` of numbers and labels; warns of a network that is no better than a constant answer."""
    figures = figures_of_test(run.task, network, run.data)
    r2, mean_precision = figures.get("test_r2"), figures.get("test_map")
    if r2 is not None and r2 <= 0:
        run.warn(f"the test R2 of {r2:.4f} is not above 0: the network predicts no better than the targets' mean")
    positives = [entry["positives"] for entry in figures["outputs"] if entry.get("positives")]
    if mean_precision is not None and positives:
        share = sum(positives) / len(positives) / run.data.sizes["test"]
        if mean_precision <= share:
            run.warn(
                f"the test mAP of {mean_precision:.4f} is not above {share:.4f}, that of answers without a network"
            )
    return figures[f"test_{run.task.score_name}"], figures


def _of_masks(run: Run, network: nn.Module) -> tuple[float, dict[str, Any]]:
    """As :func:`tested` of masks; warns of a network that is no better than one class everywhere."""
    figures = figures_of_masks(run.task, network, run.data)
    if is_first_process() and isinstance(run.data, ImageData):
        save_predictions(run.folder / PREDICTIONS, network, run.data)
    found, majority = figures.get("test_miou"), figures["majority_miou"]
    if found is not None and found <= majority:
        run.warn(
            f"the test mIoU of {found:.4f} is not above {majority:.4f}, that of the most frequent class everywhere"
        )
    return figures[f"test_{run.task.score_name}"], figures


@contextmanager
def confusion(
    network: nn.Module, batches: Iterable[Batch], num_classes: int
) -> Iterator[tuple[Iterator[Batch], Tensor]]:
    """Count a network's answers while it is evaluated.

    Args:
        network: gives logits (N, K).
        batches: that it is evaluated on, in order.
        num_classes: K.

    Yields:
        The same batches, to be read once, and numbers of images (K, K), int64, which grow with every batch that the
        network answers: rows are the true classes, columns the answers.
    """
    counts, true = torch.zeros(num_classes**2, dtype=torch.int64), list[Tensor]()

    def watched() -> Iterator[Batch]:
        for x, y in batches:
            true[:] = [y.cpu()]
            yield x, y

    def count(module: nn.Module, given: Any, output: Any) -> None:
        said = logits_of(output).argmax(1).cpu()
        counts.add_(torch.bincount(true[0] * num_classes + said, minlength=num_classes**2))

    handle = network.register_forward_hook(count)
    try:
        yield watched(), counts.reshape(num_classes, num_classes)
    finally:
        handle.remove()


def described(matrix: Tensor, names: Sequence[str] | None, majority: int) -> dict[str, Any]:
    """Figures of a confusion matrix (K, K) by the names of ``result.json``.

    ``balanced_acc`` is the mean recall of the classes with test images; ``majority_share`` the share of test images of
    class ``majority``, the largest in training; recall and precision are None where there is nothing to divide by. The
    matrix itself is among them for up to 30 classes.

    Example:
        >>> found = described(torch.tensor([[8, 0], [1, 1]]), ["cat", "dog"], majority=0)
        >>> found["balanced_acc"], found["majority_share"], found["classes"][1]
        (0.75, 0.8, {'name': 'dog', 'images': 2, 'recall': 0.5, 'precision': 1.0})
    """
    right, true, said = matrix.diagonal().tolist(), matrix.sum(1).tolist(), matrix.sum(0).tolist()
    classes = [
        {
            "name": names[number] if names else str(number),
            "images": true[number],
            "recall": _share(right[number], true[number]),
            "precision": _share(right[number], said[number]),
        }
        for number in range(len(matrix))
    ]
    recalls = [entry["recall"] for entry in classes if entry["recall"] is not None]
    return {
        "balanced_acc": sum(recalls) / len(recalls) if recalls else None,
        "majority_share": _share(true[majority], sum(true)),
        "classes": classes,
        "confusion": matrix.tolist() if len(matrix) <= _MOST_IN_MATRIX else None,
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _baseline(folder: Path, data: ImageData) -> float:
    """The accuracy of :func:`pixel_baseline`, kept in ``baseline.json`` with the contents of the data it is of."""
    file, of = folder / "baseline.json", {"contents": data.digest(), "parts": data.sizes}
    try:
        kept = read_json(file) if file.exists() else {}
        if isinstance(kept, dict) and kept.get("of") == json.loads(json.dumps(of)):
            return float(kept["accuracy"])
    except (InputError, KeyError, TypeError, ValueError):
        log.info("%s is damaged and made again", file)
    accuracy, trained, tested = pixel_baseline(data)
    write_json(file, {"accuracy": accuracy, "training_images": trained, "test_images": tested, "of": of})
    return accuracy
