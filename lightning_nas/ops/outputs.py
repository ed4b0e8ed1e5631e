"""The logits of a network, whatever else it returns, and whatever it is told besides its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lightning_nas.ops.recurrent import LanguageModel, Window


def logits_of(output: Any) -> Any:
    """The entry ``logits`` of a mapping, such as the outputs of Hugging Face's models; anything else as it is.

    >>> logits_of({"logits": 1, "cache": None}), logits_of(2)
    (1, 2)
    """
    return output["logits"] if isinstance(output, Mapping) and "logits" in output else output


def words_of(x: Any) -> Any:
    """The words of a window, without the memory of a recurrent network; anything else as it is."""
    return x.words if isinstance(x, Window) else x


def output_of(network: nn.Module, x: Any) -> Any:
    """What a network makes of the input of a batch: its logits.

    A network without a recurrent cell, such as a transformer, is given the words of a window alone.

    >>> import torch
    >>> words = torch.tensor([[0, 1, 1]])
    >>> output_of(nn.Embedding(2, 5), Window(words)).shape
    torch.Size([1, 3, 5])
    """
    if isinstance(x, Window) and not any(isinstance(module, LanguageModel) for module in network.modules()):
        x = x.words
    return logits_of(network(x))


class Logits(nn.Module):
    """A network that returns its logits alone, where the network itself returns them in a mapping."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        return logits_of(self.network(x))
