"""What searches share that train uniformly drawn paths and choose at the end."""

from functools import cached_property

import torch
from torch import Tensor

from lightning_nas.architecture import Architecture
from lightning_nas.strategies.base import SearchModule


class UniformPaths(SearchModule):
    """Every architecture is as likely as any other; nothing is preferred before :meth:`answer`."""

    def sample(self, generator: torch.Generator) -> Architecture:
        return self.space.sample(generator)

    def probabilities(self) -> dict[str, Tensor]:
        """The same all the time, so that they are counted once."""
        return self._frequencies

    @cached_property
    def _frequencies(self) -> dict[str, Tensor]:
        return super().probabilities()

    def derive(self) -> Architecture:
        """Any: nothing is preferred before the answer."""
        return self.sample(self.generator("derive"))
