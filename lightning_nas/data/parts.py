"""The four parts of a data set, and batches of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torchvision.transforms import v2

from lightning_nas.data.samples import Part, Transform
from lightning_nas.data.streams import Batches, InOrder, KeyedDataset, Stream
from lightning_nas.data.transforms import Cutout
from lightning_nas.errors import DataError
from lightning_nas.training.seeding import generator

NAMES = ("weights", "arch", "val", "test")


@dataclass(frozen=True)
class Parts:
    """Parts by name: "weights", "arch", "val", "test"; "searched", the first two; "retrain", all there is to train on.

    Attributes:
        parts: the samples of each.
        training: transform of the images a network is trained on.
        evaluation: transform of all others.
        seed: of order and augmentation.
        batch_size: samples of one batch of one process.
    """

    parts: dict[str, Part]
    training: Transform
    evaluation: Transform
    seed: int
    batch_size: int

    @property
    def sizes(self) -> dict[str, int]:
        """Samples of each of the four."""
        return {name: len(self.parts[name]) for name in NAMES}

    def of_classes(self, chosen: int, num_classes: int) -> Parts:
        """The same parts with the samples of ``chosen`` random classes, numbered from 0.

        Raises:
            DataError: so many classes there are not, or fewer than two are wanted.
        """
        if not 2 <= chosen <= num_classes:
            raise DataError(f"dataset.search_classes is {chosen}; legal are 2 to {num_classes}, the classes there are")
        order = torch.randperm(num_classes, generator=generator(self.seed, "search classes"))
        classes = order[:chosen].sort().values
        parts = {name: Part(part.samples, part.indices, classes) for name, part in self.parts.items()}
        return replace(self, parts=parts)

    def shuffled(
        self,
        name: str,
        rank: int = 0,
        world_size: int = 1,
        *,
        batch_size: int | None = None,
        stream: str | None = None,
        cutout: int = 0,
    ) -> Batches:
        """Endless passes over a part, augmented.

        Args:
            name: of the part.
            rank: of this process.
            world_size: processes.
            batch_size: another than usual.
            stream: names order and augmentation; by default the part's name.
            cutout: side of a square that is painted over at last; 0 for none.

        Raises:
            DataError: the part is smaller than a batch on all processes.
        """
        part, stream = self.parts[name], stream or name
        order = Stream(len(part), batch_size or self.batch_size, self.seed, stream, rank, world_size)
        transform = _painted(self.training, cutout) if cutout else self.training
        return Batches(KeyedDataset(part, transform, self.seed, stream), order)

    def in_order(self, name: str, rank: int = 0, world_size: int = 1) -> Batches:
        """One pass over a part, as it is.

        Raises:
            DataError: the part is empty.
        """
        part = self.parts[name]
        if not len(part):
            raise DataError(f"the {name} part has no samples; give it a larger share with dataset.{name}_fraction")
        order = InOrder(len(part), self.batch_size, rank, world_size)
        return Batches(KeyedDataset(part, self.evaluation, self.seed, name), order)


def _painted(transform: Transform, cutout: int) -> Transform:
    steps = [step for step in (transform.image, Cutout(cutout, transform.zero)) if step is not None]
    return replace(transform, image=v2.Compose(steps))
