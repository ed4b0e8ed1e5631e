"""Contract of spaces whose networks can inherit transformed weights of another network."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.spaces.base import SearchSpace


class InheritingSpace(SearchSpace):
    """Space with transformations of weights that preserve the function of a network (Net2Net, arXiv:1511.05641)."""

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
        """Build the network of ``architecture`` with the function of ``parent``.

        Args:
            parent: a trained network of ``origin``; it is not changed.
            origin: an architecture that ``architecture`` can be reached from.
            architecture: the architecture of the new network.
            generator: draws which units are copied.
            images: training images (N, C, H, W) from which new layers take their statistics; see the space.

        Raises:
            InvalidArchitecture: no transformation leads from ``origin`` to ``architecture``.
        """
