"""Base class of searches that train uniformly drawn paths and choose at the end."""

from functools import cached_property

import torch
from torch import Tensor

from lightning_nas.architecture import Architecture
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.evolution import TRIES


class UniformPaths(SearchModule):
    """Base class of searches that draw every architecture with equal probability until :meth:`choose`."""

    def sample(self, generator: torch.Generator) -> Architecture:
        return self.space.sample(generator)

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
