"""Networks and supernet of chains of blocks (:mod:`lightning_nas.spaces.chains.space`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_nas.ops.blocks import initialize
from lightning_nas.spaces.base import Supernet
from lightning_nas.spaces.gates import Gates


class Parts(NamedTuple):
    """All parts of a network, in order."""

    stem: nn.Module
    first: nn.Module
    blocks: nn.ModuleList
    mix: nn.Module
    classifier: nn.Module


class ChainNetwork(nn.Module):
    """Chain of blocks: images (N, C, H, W) to logits (N, num_classes), in channels-last memory."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.stem, self.first, self.blocks, self.mix, self.classifier = parts
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.classifier(self.mix(x))
        return logits


class ChainSupernet(Supernet):
    """Chain whose blocks mix their options.

    Args:
        parts: parts with a mixture for each block.
        places: for each block its group of gates, and whether a shortcut is added to the mixture.
    """

    def __init__(self, parts: Parts, places: Sequence[tuple[str, bool]]) -> None:
        super().__init__()
        self.stem, self.first, self.blocks, self.mix, self.classifier = parts
        self.places = tuple(places)
        initialize(self)

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Mix each block's candidates by its row of ``gates``."""
        x = self.first(self.stem(x.contiguous(memory_format=torch.channels_last)))
        rows = {group: zip(m, gates.active[group], strict=True) for group, m in gates.values.items()}
        for block, (group, residual) in zip(self.blocks, self.places, strict=True):
            y = block(x, *next(rows[group]))
            x = x + y if residual else y
        logits: Tensor = self.classifier(self.mix(x))
        return logits
