"""Cutting a labelled data set into disjoint, seeded parts of like class proportions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_nas.data.samples import Part, Samples
from lightning_nas.errors import DataError
from lightning_nas.training.seeding import generator


def stratified(labels: Tensor, shares: Sequence[float], seed: int) -> list[Tensor]:
    """Disjoint parts with the given shares of every class, and last of all what is left.

    Args:
        labels: (n,) class of each sample.
        shares: of the whole, at most 1 together; each part gets its share of each class, as nearly
            as whole samples allow.
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
    evenly = by_class[quantile.sort(stable=True).indices]  # any beginning of it holds every class in proportion
    ends = [round(sum(shares[: i + 1]) * len(labels)) for i in range(len(shares))]
    return [part.sort().values for part in evenly.tensor_split(ends)]


@dataclass(frozen=True)
class Images:
    """What a data set comes with; a part it lacks is cut off its training images."""

    train: Samples
    val: Samples | None = None
    test: Samples | None = None

    @property
    def labels(self) -> dict[str, Tensor]:
        """Labels of each part there is."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part.labels for name, part in parts.items() if part is not None}


def divide(images: Images, *, test: float, val: float, arch: float, seed: int, search: float = 1.0) -> dict[str, Part]:
    """The four disjoint parts, "searched": weights and arch together, and "retrain": these and what no search sees.

    Args:
        images: all there are.
        test: share of the training images for the test, if there is no such part.
        val: likewise for validation.
        arch: share of the search's images that trains the architecture.
        seed: of the division.
        search: share of the remaining training images that the search sees.

    Raises:
        DataError: nothing is left for training.
    """
    test = 0.0 if images.test is not None else test
    val = 0.0 if images.val is not None else val
    seen = (1 - test - val) * search
    cut = stratified(images.train.labels, [test, val, seen * arch, seen * (1 - arch)], seed)
    indices = dict(zip(("test", "val", "arch", "weights", "rest"), cut, strict=True))
    indices["searched"] = torch.cat([indices["weights"], indices["arch"]]).sort().values
    indices["retrain"] = torch.cat([indices["searched"], indices.pop("rest")]).sort().values
    if not len(indices["retrain"]):
        raise DataError(
            f"dataset.val_fraction ({val}) and dataset.test_fraction ({test}) leave none of the "
            f"{len(images.train)} images for training"
        )
    parts = {name: Part(images.train, chosen) for name, chosen in indices.items()}
    for name, own in (("val", images.val), ("test", images.test)):
        if own is not None:
            parts[name] = Part(own, torch.arange(len(own)))
    return parts
