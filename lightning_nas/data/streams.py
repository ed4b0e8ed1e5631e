"""Order and augmentation as pure functions of (seed, stream name, pass, sample index).

Nothing here has a state, so nothing has to be saved: batch ``t`` is the same at any time, on any machine and with any
number of worker processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler
from torchvision.tv_tensors import Mask

from lightning_nas.data.options import option
from lightning_nas.data.samples import Label, Samples, Transform
from lightning_nas.errors import DataError
from lightning_nas.training.seeding import generator, seeded

SampleKey = tuple[int, int]
"""(pass, sample index)."""

Batch = tuple[Tensor, Tensor]
"""A batch (x, y): images (N, C, H, W) and labels (N,) or (N, T) or masks (N, H, W), or words (N, T) and those after."""


class Order(Protocol):
    """Which samples are in batch ``t``."""

    @property
    def batches_per_pass(self) -> int:
        """Batches of one pass, in which every sample comes at most once (twice where ranks are filled up)."""

    def batch(self, t: int) -> list[SampleKey]:
        """The (pass, sample index) of every sample of the batch."""


@dataclass(frozen=True)
class Stream:
    """Endless shuffled passes over ``length`` samples, each pass cut into full batches.

    Pass p is a permutation drawn from (seed, name, p); samples that do not fill a last batch are left out of that pass.
    Streams of different lengths begin their passes independently of each other.

    Args:
        length: number of samples.
        batch_size: samples per batch and process.
        seed: of the run.
        name: of the stream, so that streams of equal length differ.
        rank: of this process; its batches are disjoint from those of the other ranks.
        world_size: number of processes.

    Raises:
        DataError: fewer samples than one batch of all processes.

    Example:
        >>> stream = Stream(length=5, batch_size=2, seed=0, name="weights")
        >>> stream.batches_per_pass
        2
        >>> len({index for t in (0, 1) for _, index in stream.batch(t)}), stream.batch(2)[0][0]
        (4, 1)
    """

    length: int
    batch_size: int
    seed: int
    name: str
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not self.batches_per_pass:
            each = f" on each of {self.world_size} processes" if self.world_size > 1 else ""
            raise DataError(
                f"the {self.name} part has {self.length} samples, fewer than one batch of {self.batch_size}{each}; "
                f"lower {option('batch_size')} or give this part a larger share of the data"
            )

    @property
    def batches_per_pass(self) -> int:
        """Full batches per process and pass."""
        return self.length // (self.batch_size * self.world_size)

    def batch(self, t: int) -> list[SampleKey]:
        """The (pass, sample index) of every sample of this process's batch ``t``, counted from the first pass on."""
        number, position = divmod(t, self.batches_per_pass)
        start = (position * self.world_size + self.rank) * self.batch_size
        order = _permutation(self.length, self.seed, self.name, number)
        return [(number, index) for index in order[start : start + self.batch_size].tolist()]


@lru_cache(maxsize=8)
def _permutation(length: int, seed: int, name: str, number: int) -> Tensor:
    return torch.randperm(length, generator=generator(seed, name, number))


@dataclass(frozen=True, eq=False)
class Balanced:
    """Passes of a stream in which every class comes equally often, as far as numbers divide.

    A pass has as many samples as one of the stream. A class with fewer samples than its share comes whole, as often as
    it fits, and then in part; of a class with more samples, a part comes. The parts are drawn from (seed, name, pass),
    anew in every pass. A sample that comes again in a pass has a pass number of its own, above 2**40, so that it is
    augmented anew.

    Args:
        stream: gives length, order and batches.
        labels: (length,) class of each sample.

    Example:
        >>> order = Balanced(Stream(6, 2, 0, "weights"), torch.tensor([0, 0, 0, 0, 0, 1]))
        >>> sorted(index for t in range(3) for _, index in order.batch(t))[-3:]
        [5, 5, 5]
    """

    stream: Stream
    labels: Tensor
    _drawn: dict[int, list[SampleKey]] = field(default_factory=dict, init=False, repr=False)

    @property
    def batches_per_pass(self) -> int:
        """Full batches per process and pass."""
        return self.stream.batches_per_pass

    def batch(self, t: int) -> list[SampleKey]:
        """The (pass, sample index) of every sample of this process's batch ``t``, counted from the first pass on."""
        return [self._pass(number)[place] for number, place in self.stream.batch(t)]

    def _pass(self, number: int) -> list[SampleKey]:
        if number not in self._drawn:
            self._drawn.clear()  # passes come one after the other
            self._drawn[number] = self._draw(number)
        return self._drawn[number]

    def _draw(self, number: int) -> list[SampleKey]:
        rng = generator(self.stream.seed, self.stream.name, "balanced", number)
        classes = torch.bincount(self.labels).nonzero()[:, 0]
        share, over = divmod(self.stream.length, len(classes))
        more = set(torch.randperm(len(classes), generator=rng)[:over].tolist())
        keys: list[SampleKey] = []
        for place, label in enumerate(classes):
            members = (self.labels == label).nonzero()[:, 0]
            whole, rest = divmod(share + (place in more), len(members))
            part = members[torch.randperm(len(members), generator=rng)[:rest]]
            for repeat in range(whole + 1):
                come = members if repeat < whole else part
                keys += [(number + (repeat << 40), index) for index in come.tolist()]
        return keys


@dataclass(frozen=True)
class InOrder:
    """All samples once, unshuffled; the last batch may be smaller.

    With several processes each takes every ``world_size``-th sample, and the first samples come twice where the
    number does not divide, so that all ranks have equally many batches (``DistributedSampler``).
    """

    length: int
    batch_size: int
    rank: int = 0
    world_size: int = 1
    _indices: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        everything: Any = range(self.length)
        shard: DistributedSampler[int] = DistributedSampler(everything, self.world_size, self.rank, shuffle=False)
        object.__setattr__(self, "_indices", list(shard))

    @property
    def batches_per_pass(self) -> int:
        """Batches per process."""
        return -(-len(self._indices) // self.batch_size)

    def batch(self, t: int) -> list[SampleKey]:
        """The samples of batch ``t``; the pass is always 0."""
        return [(0, index) for index in self._indices[t * self.batch_size :][: self.batch_size]]


class KeyedDataset(Dataset[tuple[Tensor, Label]]):
    """Samples by (pass, index); every random transform draws from (seed, name, pass, index).

    Args:
        samples: images before the transform, with labels.
        transform: applied to each image and to each batch.
        seed: of the run.
        name: of the stream that reads the samples.
    """

    def __init__(self, samples: Samples, transform: Transform, seed: int, name: str) -> None:
        self.samples, self.transform, self.seed, self.name = samples, transform, seed, name

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, Label]:
        image, label = self._one(key)
        return self.transform.batch(image), label

    def batch(self, keys: Sequence[SampleKey]) -> Batch:
        """The samples of ``keys`` as one batch: images (N, C, H, W), labels (N,) or (N, T).

        Raises:
            DataError: images of different shapes or types.
        """
        if self.transform.image is None and (taken := self.samples.take([index for _, index in keys])):
            images, labels = taken
            return self.transform.batch(images), labels
        pairs = [self._one(key) for key in keys]
        try:
            stacked = torch.stack([image for image, _ in pairs])
        except (TypeError, RuntimeError) as reason:
            raise DataError(f"the images of the {self.name} part do not make a batch: {reason}") from None
        return self.transform.batch(stacked), torch.stack([torch.as_tensor(label) for _, label in pairs])

    def _one(self, key: SampleKey) -> tuple[Tensor, Label]:
        with seeded(self.seed, self.name, *key):
            image, label = self.samples[key[1]]
            if isinstance(label, Mask):
                image, label = (image, label) if self.transform.image is None else self.transform.image(image, label)
                return image, label.as_subclass(Tensor).long()
            return image if self.transform.image is None else self.transform.image(image), label


class Batches(Dataset[Batch]):
    """Batches by their number: samples in an order.

    >>> from lightning_nas.data.samples import Arrays
    >>> arrays = Arrays(torch.arange(8.0).reshape(4, 1, 1, 2), torch.arange(4))
    >>> batches = Batches(KeyedDataset(arrays, Transform(), 0, "weights"), Stream(4, 2, 0, "weights"))
    >>> sorted(torch.cat([batches[0][1], batches[1][1]]).tolist())
    [0, 1, 2, 3]
    """

    def __init__(self, samples: KeyedDataset, order: Order) -> None:
        self.samples, self.order = samples, order

    def __len__(self) -> int:
        return self.order.batches_per_pass

    def __getitem__(self, t: int) -> Batch:
        return self.samples.batch(self.order.batch(t))
