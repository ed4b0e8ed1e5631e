"""A data set divided into parts, and the batches of each part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torchvision.transforms import v2

from lightning_nas.data.options import option
from lightning_nas.data.samples import Part, Transform
from lightning_nas.data.streams import Balanced, Batches, InOrder, KeyedDataset, Order, Stream
from lightning_nas.data.targets import Scale
from lightning_nas.data.transforms import Cutout
from lightning_nas.errors import DataError
from lightning_nas.training.seeding import generator

NAMES = ("weights", "arch", "val", "test")


@dataclass(frozen=True)
class Division:
    """A data set divided into the parts "weights", "arch", "val" and "test".

    Two more names stand for unions: "searched" for weights and arch, "retrain" for all samples to train on.

    Attributes:
        parts: the samples of each part, by name.
        training: transform of the images that a network is trained on.
        evaluation: transform of all other images.
        seed: of order and augmentation.
        batch_size: samples per batch and process.
        balanced: whether every class comes equally often in shuffled passes.
    """

    parts: dict[str, Part]
    training: Transform
    evaluation: Transform
    seed: int
    batch_size: int
    balanced: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples of each of the four parts."""
        return {name: len(self.parts[name]) for name in NAMES}

    def of_classes(self, chosen: int, num_classes: int) -> Division:
        """The same parts, reduced to ``chosen`` random classes that are numbered from 0.

        Raises:
            DataError: ``chosen`` is below two or above ``num_classes``.
        """
        if not 2 <= chosen <= num_classes:
            raise DataError(f"{option('search_classes')} is {chosen}; legal are 2 to {num_classes}, those of the data")
        order = torch.randperm(num_classes, generator=generator(self.seed, "search classes"))
        classes = order[:chosen].sort().values
        parts = {name: Part(part.samples, part.indices, classes) for name, part in self.parts.items()}
        return replace(self, parts=parts)

    def standardised(self, scale: Scale) -> Division:
        """The same parts with targets that are standardised numbers, float32."""
        parts = {name: Part(part.samples, part.indices, change=scale.standardised) for name, part in self.parts.items()}
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
        """Endless shuffled passes over a part, with the training transform.

        Args:
            name: of the part.
            rank: of this process.
            world_size: number of processes.
            batch_size: None for that of the division.
            stream: name that order and augmentation are drawn from; None for the part's name.
            cutout: side of a square that is painted over as the last step; 0 for none.

        Raises:
            DataError: the part is smaller than a batch on all processes.
        """
        part, stream = self.parts[name], stream or name
        passes = Stream(len(part), batch_size or self.batch_size, self.seed, stream, rank, world_size)
        order: Order = Balanced(passes, part.labels) if self.balanced else passes
        transform = _with_cutout(self.training, cutout) if cutout else self.training
        return Batches(KeyedDataset(part, transform, self.seed, stream), order)

    def in_order(self, name: str, rank: int = 0, world_size: int = 1) -> Batches:
        """One pass over a part in order, with the evaluation transform.

        Raises:
            DataError: the part is empty.
        """
        part = self.parts[name]
        if not len(part):
            raise DataError(f"the {name} part has no samples; raise {option(f'{name}_fraction')}")
        order = InOrder(len(part), self.batch_size, rank, world_size)
        return Batches(KeyedDataset(part, self.evaluation, self.seed, name), order)


def _with_cutout(transform: Transform, cutout: int) -> Transform:
    steps = [step for step in (transform.image, Cutout(cutout, transform.zero)) if step is not None]
    return replace(transform, image=v2.Compose(steps))
