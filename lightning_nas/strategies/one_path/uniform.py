"""Base class of searches that train uniformly drawn paths and choose at the end."""

from functools import cached_property
from typing import Unpack

import torch
from torch import Tensor

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.evolution import TRIES
from lightning_nas.strategies.options import SearchOptions
from lightning_nas.tasks.base import Task


class UniformPaths(SearchModule):
    """Base class of searches that draw every architecture with equal probability until :meth:`choose`.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation.
        redraw: draw again where the output does not depend on the input, since such a step trains nothing but the
            classifier's bias.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        redraw: bool = False,
        **options: Unpack[SearchOptions],
    ) -> None:
        super().__init__(space, task, table, **options)
        self.redraw = redraw

    def sample(self, generator: torch.Generator) -> Architecture:
        """An architecture; with ``redraw`` the first of at most a thousand whose output depends on the input."""
        drawn = self.space.sample(generator)
        for _ in range(1000 if self.redraw else 0):
            if self.space.has_path(drawn):
                break
            drawn = self.space.sample(generator)
        return drawn

    def kept(self, architecture: Architecture, generator: torch.Generator) -> Architecture:
        """The architecture; with a target the first of ten that meets it, and at last one near the tenth."""
        if self.target is not None:
            for _ in range(TRIES - 1):
                if self.target.meets(architecture):
                    return architecture
                architecture = self.sample(generator)
        return super().kept(architecture, generator)

    def probabilities(self) -> dict[str, Tensor]:
        """Constant frequencies, counted once."""
        return self._frequencies

    @cached_property
    def _frequencies(self) -> dict[str, Tensor]:
        return super().probabilities()

    def derive(self) -> Architecture:
        """A random architecture, because none is preferred before the answer."""
        return self.sample(self.generator("derive"))
