"""Targets that are numbers or labels: their checks, their conversion to tensors, their scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_nas.data.checks import Numbers, as_labels
from lightning_nas.data.options import option
from lightning_nas.errors import DataError, shown
from lightning_nas.ranges import Targets

WORDS = {
    "classes": "one class a sample (task=classification)",
    "numbers": "one or many numbers a sample (task=regression)",
    "labels": "yes or no for each of several labels (task=multilabel)",
    "words": "words (task=language_modelling)",
    "masks": "one class a pixel (task=segmentation)",
}
_FAR = 20.0  # standard deviations
_FEW = 20  # whole numbers that may be classes
_LEAST = 1e-12  # spread of a target, as a share of its size, that float64 still tells from none


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each target over the training samples.

    Attributes:
        mean: (T,), float64.
        std: (T,), float64, above 0.

    Example:
        >>> scale = Scale.of(torch.tensor([[1.0], [3.0]], dtype=torch.float64))
        >>> scale.standardised(torch.tensor([[1.0], [3.0]], dtype=torch.float64)).tolist()
        [[-1.0], [1.0]]
        >>> scale.restored(torch.tensor([[-1.0], [1.0]])).tolist()
        [[1.0], [3.0]]
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, targets: Tensor) -> Scale:
        """The scale of targets (n, T), float64.

        Raises:
            DataError: a target that has one value in all samples, or is too large.
        """
        mean, std = targets.mean(0), targets.std(0, correction=0)
        if not bool(std.isfinite().all()):
            raise DataError(f"target {int((~std.isfinite()).nonzero()[0])} is too large for a mean; divide it")
        same = std <= _LEAST * targets.abs().amax(0)
        if bool(same.any()):
            number = int(same.nonzero()[0])
            raise DataError(
                f"target {number} is {float(targets[0, number]):.6g} in every training sample, so there is nothing to "
                "learn; leave it out"
            )
        return cls(mean, std)

    def standardised(self, targets: Tensor) -> Tensor:
        """Targets (n, T) with mean 0 and standard deviation 1 over the training samples, float32."""
        return ((targets.double() - self.mean) / self.std).float()

    def restored(self, outputs: Tensor) -> Tensor:
        """Standardised numbers (n, T) in the targets' own unit, float64, on the CPU."""
        return outputs.cpu().double() * self.std + self.mean


def as_targets(y: Numbers, length: int, where: str, kind: Targets) -> Tensor:
    """Targets of a kind as a tensor: classes (N,) int64, numbers (N, T) float64, labels (N, T) float32 of 0 and 1.

    Args:
        y: array or tensor; numbers may be (N,).
        length: number of samples.
        where: the beginning of the message, e.g. "y_train of 'data.npz'".
        kind: "classes", "numbers" or "labels".

    Raises:
        DataError: another number than of samples, another shape or type, a number that is not finite, a label that is
            neither 0 nor 1.

    Example:
        >>> as_targets(np.array([0.5, 1.5]), 2, "y", "numbers").tolist()
        [[0.5], [1.5]]
        >>> as_targets(np.array([3, 4]), 2, "y", "labels")
        Traceback (most recent call last):
        lightning_nas.errors.DataError: y has the shape (2,); several labels are 0 or 1 for each, (N, T) with T of at \
least 2; of one class a sample task=classification
    """
    if kind == "classes":
        return as_labels(y, length, where)
    array = y.detach().cpu().double().numpy() if isinstance(y, Tensor) else y
    if array.dtype.kind not in "fiub" or (kind == "numbers" and array.dtype.kind == "b"):
        legal = "numbers" if kind == "numbers" else "0 and 1"
        instead = "; of yes or no task=multilabel" if array.dtype.kind == "b" else ""
        raise DataError(f"{where} has the type {shown(str(array.dtype))}; legal are {legal}{instead}")
    if len(array.shape) > 0 and len(array) != length:
        raise DataError(f"{where} has {len(array)} targets for {length} images")
    return _numbers(array, where) if kind == "numbers" else _labels(array, where)


def _numbers(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], where: str) -> Tensor:
    if array.ndim not in (1, 2) or 0 in array.shape[1:]:
        raise DataError(f"{where} has the shape {array.shape}; numbers are (N,) or (N, T) for T targets")
    found = torch.from_numpy(array.astype(np.float64)).reshape(len(array), -1)
    if not bool((finite := found.isfinite()).all()):
        sample, number = (~finite).nonzero()[0].tolist()
        raise DataError(
            f"{where} has a target that is NaN or infinite, first in sample {sample}, target {number}; leave such "
            "samples out"
        )
    return found


def _labels(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], where: str) -> Tensor:
    if array.ndim != 2 or array.shape[1] < 2:
        raise DataError(
            f"{where} has the shape {array.shape}; several labels are 0 or 1 for each, (N, T) with T of at least 2; of "
            "one class a sample task=classification"
        )
    found = torch.from_numpy(array.astype(np.float64))
    if not bool((known := (found == 0) | (found == 1)).all()):
        sample, number = (~known).nonzero()[0].tolist()
        raise DataError(
            f"{where} has {float(found[sample, number]):.6g} in sample {sample} for label {number}; labels are 0 or 1, "
            "numbers task=regression"
        )
    return found.float()


def count_targets(targets: Mapping[str, Tensor], given: int | None, kind: Targets) -> int:
    """Number of targets of a data set, T.

    Args:
        targets: (n, T), by part.
        given: the number that the user gave, or None.
        kind: "numbers" or "labels".

    Raises:
        DataError: a part without samples, parts of unlike T, or another T than given.
    """
    if empty := [name for name, part in targets.items() if not len(part)]:
        raise DataError(f"the {empty[0]} part of the data set has no images")
    counts = {name: part.shape[1] for name, part in targets.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(f"the parts of the data set have unlike numbers of {kind}: {listed}")
    found = counts["train"]
    if given is not None and found != given:
        raise DataError(f"the data have {found} {kind} a sample, but {option('num_classes')} is {given}")
    return found


def check_parts(parts: Mapping[str, Tensor], kind: Targets) -> None:
    """Refuse targets that cannot be learned or tested.

    Args:
        parts: targets (n, T) of the parts "retrain", "val" and "test", as far as they have samples.
        kind: "numbers" or "labels".

    Raises:
        DataError: fewer than two samples to test numbers on, or a label without a training sample that has it.
    """
    for name, part in parts.items():
        if kind == "numbers" and len(part) < 2:
            raise DataError(f"the {name} part has one sample; R2 needs two: raise {option(f'{name}_fraction')}")
    if kind == "labels" and bool((never := ~parts["retrain"].any(0)).any()):
        raise DataError(f"label {int(never.nonzero()[0])} is 0 in every training sample; leave it out")


def target_doubts(parts: Mapping[str, Tensor], kind: Targets, scale: Scale | None = None) -> Iterator[str]:
    """What is doubtful about targets.

    Args:
        parts: targets (n, T), not standardised, of the part "retrain" and of others, by name.
        kind: "numbers" or "labels".
        scale: of numbers.

    Example:
        >>> list(target_doubts({"retrain": torch.tensor([[1.0, 0.0], [0.0, 1.0]])}, "labels"))
        ['every training sample has exactly one label; task=classification says which']
    """
    train = parts["retrain"]
    if scale is None:
        if bool((train.sum(1) == 1).all()):
            yield "every training sample has exactly one label; task=classification says which"
        for number in train.all(0).nonzero().flatten().tolist():
            yield f"label {number} is 1 in every training sample"
        for name in [name for name in parts if name != "retrain"]:
            for number in (~parts[name].any(0)).nonzero().flatten().tolist():
                yield f"label {number} is 0 in every sample of the {name} part, so it does not count in its map"
        return
    whole = bool((train == train.round()).all()) and bool((train >= 0).all())
    if train.shape[1] == 1 and whole and len(torch.unique(train)) <= _FEW < len(train):
        yield f"the target has {len(torch.unique(train))} values, all whole numbers; of classes task=classification"
    for name, part in parts.items():
        distance = scale.standardised(part).abs().amax(0)
        for number in (distance > _FAR).nonzero().flatten().tolist():
            yield (
                f"target {number} has a value {float(distance[number]):,.0f} standard deviations from its mean in the "
                f"{name} part; such a sample outweighs many others in the mean squared error"
            )
