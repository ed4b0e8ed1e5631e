"""The division of a labelled data set into disjoint parts with equal class proportions, drawn from a seed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_nas.data.options import option
from lightning_nas.data.samples import Part, Samples
from lightning_nas.errors import DataError
from lightning_nas.training.seeding import generator


def stratified(labels: Tensor, shares: Sequence[float], seed: int) -> list[Tensor]:
    """Disjoint parts with the given shares of every class; the last part holds the rest.

    Args:
        labels: (n,) class of each sample.
        shares: of the whole, with a sum of at most 1; each part gets its share of each class, to the nearest whole
            sample.
        seed: of the permutation within the classes.

    Returns:
        ``len(shares) + 1`` sorted index tensors; together they hold every index exactly once.

    Example:
        >>> test, rest = stratified(torch.tensor([0] * 4 + [1] * 8), [0.25], seed=0)
        >>> len(test), len(rest)
        (3, 9)
    """
    shuffled = torch.randperm(len(labels), generator=generator(seed, "split"))
    by_class = shuffled[labels[shuffled].sort(stable=True).indices]
    counts = torch.bincount(labels)
    counts = counts[counts > 0]
    first = counts.cumsum(0) - counts
    within = torch.arange(len(labels)) - first.repeat_interleave(counts)
    quantile = (within.double() + 0.5) / counts.repeat_interleave(counts)
    evenly = by_class[quantile.sort(stable=True).indices]  # any first n of them hold every class in proportion
    ends = [round(sum(shares[: i + 1]) * len(labels)) for i in range(len(shares))]
    return [part.sort().values for part in evenly.tensor_split(ends)]


@dataclass(frozen=True)
class Images:
    """The images of a data set; ``val`` and ``test`` are None where they must be taken from the training images."""

    train: Samples
    val: Samples | None = None
    test: Samples | None = None

    @property
    def parts(self) -> dict[str, Samples]:
        """The parts that the data set has, by name."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def labels(self) -> dict[str, Tensor]:
        """Labels of each part that the data set has."""
        return {name: part.labels for name, part in self.parts.items()}

    def digest(self) -> str:
        """Hexadecimal digest of the contents of all parts; "" where they are not known."""
        known = {name: _digest(part) for name, part in self.parts.items()}
        return hashlib.sha256(repr(known).encode()).hexdigest()[:16] if all(known.values()) else ""


def strata(targets: Tensor) -> Tensor:
    """What is divided in equal shares, (n,) int64: classes, combinations of labels, and numbers all as one.

    >>> strata(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])).tolist()
    [0, 1, 0]
    >>> strata(torch.tensor([[0.5], [2.0]])).tolist()
    [0, 0]
    """
    if targets.ndim == 1:
        return targets
    if bool(((targets == 0) | (targets == 1)).all()):
        combinations: Tensor = torch.unique(targets, dim=0, return_inverse=True)[1]
        return combinations
    return torch.zeros(len(targets), dtype=torch.int64)


def _digest(samples: Samples) -> str:
    """The digest of samples; "" where a data set of an installed package does not tell it."""
    told = getattr(samples, "digest", None)
    return "" if told is None else str(told())


def divide(images: Images, *, test: float, val: float, arch: float, seed: int, search: float = 1.0) -> dict[str, Part]:
    """Divide a data set into the parts of a search.

    Args:
        images: the data set.
        test: share of the training images for the test, unless the data set has a test part.
        val: share of the training images for validation, unless the data set has such a part.
        arch: share of the searched images that trains the architecture.
        seed: of the division.
        search: share of the remaining training images that the search sees.

    Returns:
        The disjoint parts "weights", "arch", "val" and "test"; "searched", which is weights and arch; and "retrain",
        which is these two and the images that the search does not see.

    Raises:
        DataError: nothing is left for training.
    """
    test = 0.0 if images.test is not None else test
    val = 0.0 if images.val is not None else val
    seen = (1 - test - val) * search
    cut = stratified(strata(images.train.labels), [test, val, seen * arch, seen * (1 - arch)], seed)
    indices = dict(zip(("test", "val", "arch", "weights", "rest"), cut, strict=True))
    indices["searched"] = torch.cat([indices["weights"], indices["arch"]]).sort().values
    indices["retrain"] = torch.cat([indices["searched"], indices.pop("rest")]).sort().values
    if not len(indices["retrain"]):
        raise DataError(
            f"{option('val_fraction', str(val))} and {option('test_fraction', str(test))} leave none of the "
            f"{len(images.train)} images for training"
        )
    parts = {name: Part(images.train, chosen) for name, chosen in indices.items()}
    for name, own in (("val", images.val), ("test", images.test)):
        if own is not None:
            parts[name] = Part(own, torch.arange(len(own)))
    return parts
