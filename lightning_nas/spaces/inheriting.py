"""Spaces whose networks can begin with the transformed weights of another."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.spaces.base import SearchSpace


class InheritingSpace(SearchSpace):
    """A space with transformations of weights that keep what a network computes (Net2Net, arXiv:1511.05641)."""

    @abstractmethod
    def inherit(
        self,
        parent: nn.Module,
        origin: Architecture,
        architecture: Architecture,
        generator: torch.Generator,
        *,
        images: Tensor | None = None,
    ) -> nn.Module:
        """The network of ``architecture``, computing what the ``parent`` computes.

        Args:
            parent: a network of ``origin``, trained; left as it is.
            origin: an architecture that ``architecture`` can be reached from.
            architecture: of the network wanted.
            generator: of which units are copied.
            images: (N, C, H, W), of the training part, that statistics of new layers are taken from; see the space.

        Raises:
            InvalidArchitecture: no transformation leads from the one to the other.
        """
