"""Recurrent language models with any cell: words in, logits of the next word out.

Shapes: N rows of text, T words of a window, H width, M size of a cell's memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


Node = Callable[[list[Tensor], Tensor | None], Tensor]
"""A state (N, H) from those before it and the mask (N, H) of their dropout."""


@dataclass(eq=False)
class Window:
    """Window of text with the memory of a recurrent network before and after it.

    The memory belongs to the batch and not to the network, so that a network is a function: a window that is read
    twice (as a second-order search does) begins with the same state, and two streams of text cannot mix theirs.

    Attributes:
        words: (N, T) int64.
        before: memory (N, M) at the beginning; None for zeros.
        after: memory (N, M) after the last word, without gradient; written by the network that last read the window.
        states: hidden states (N, T, H) with gradient, written by the same network.
    """

    words: Tensor
    before: Tensor | None = None
    after: Tensor | None = field(default=None, repr=False)
    states: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Dropouts:
    """Probabilities of variational dropout (Gal & Ghahramani, 2016, arXiv:1512.05287): one mask for all time steps.

    Attributes:
        words: dropout of whole words, wherever they occur in the batch.
        input: dropout of the embedding.
        x: dropout of the input of the cell at each step.
        hidden: dropout of every state that a cell's matrix multiplies.
        output: dropout of the input of the decoder.
    """

    words: float = 0.0
    input: float = 0.0
    x: float = 0.0
    hidden: float = 0.0
    output: float = 0.0


def mask(shape: tuple[int, ...], drop: float, like: Tensor) -> Tensor | None:
    """Zeros and 1 / (1 - drop) from torch's global generator, or None where nothing is dropped."""
    if not drop:
        return None
    return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - drop).div_(1 - drop)


def masked(x: Tensor, by: Tensor | None) -> Tensor:
    """The product, or ``x`` itself."""
    return x if by is None else x * by


class BatchStatistics(nn.Module):
    """Batch norm without scale by the statistics of the batch (N, H), also in evaluation.

    Running statistics do not bound a recurrent state: deviations from them grow at each step until they are NaN. A
    single row has no statistics and is not changed.
    """

    def forward(self, s: Tensor) -> Tensor:
        return F.batch_norm(s, None, None, training=True) if len(s) > 1 else s


Transition = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""The next hidden state (N, H) from the last, c and g (N, H) of :class:`Recurrent`, and the mask of dropout."""


class Unrolled(nn.Module, ABC):
    """Base class of a recurrent cell, or of stacked cells, that reads a window.

    Words (N, T, H) and the memory (N, M) in, the memory after each word (N, T, M) out; its first H columns are the
    hidden state that the decoder reads.

    Args:
        width: H.
        layers: number of stacked cells; masks of dropout are (N, layers H), the first layer's first.
        states: number of states of each layer, so that M is layers times states times H.
    """

    def __init__(self, width: int, layers: int = 1, states: int = 1) -> None:
        super().__init__()
        self.width, self.layers, self.memory = width, layers, layers * states * width

    @abstractmethod
    def forward(self, x: Tensor, before: Tensor, x_mask: Tensor | None, h_mask: Tensor | None, *told: Any) -> Tensor:
        """Read a window.

        Args:
            x: embedded words.
            before: memory before the window.
            x_mask: dropout mask of the input of each layer.
            h_mask: dropout mask of the states that its matrices multiply.
            told: further arguments of the call of the language model.
        """


class Recurrent(Unrolled):
    """Base class of a cell whose memory is its hidden state.

    A subclass says what happens to ``[c, g] = [x, h] W_0`` at each step of time.

    Args:
        width: H.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.first = nn.Parameter(torch.empty(2 * width, 2 * width))

    @abstractmethod
    def step(self, *told: Any) -> Transition:
        """Make the transition that runs at every step of this pass.

        Args:
            told: further arguments of the call of the language model.
        """

    def forward(self, x: Tensor, h: Tensor, x_mask: Tensor | None, h_mask: Tensor | None, *told: Any) -> Tensor:
        """Hidden states (N, T, H) after each word."""
        n, t, width = x.shape
        of_x, of_h = self.first.chunk(2)
        fed = masked(x, None if x_mask is None else x_mask[:, None])
        inputs = (fed.reshape(n * t, width) @ of_x).view(n, t, 2 * width)
        step, outputs = self.step(*told), []
        for now in inputs.unbind(1):
            c, g = torch.addmm(now, masked(h, h_mask), of_h).chunk(2, 1)
            h = step(h, c, g, h_mask)
            outputs.append(h)
        return torch.stack(outputs, 1)


class Cell(Recurrent):
    """DARTS' form of a cell: what follows the first state ``s_0 = h + sigmoid(c) (tanh(g) - h)``, and a mean of states.

    Args:
        width: H.
        steps: nodes after the first state, each with a matrix W_i (H, 2H).
        outputs: which states, counted from 0, are averaged to the new hidden state.
        norm: :class:`BatchStatistics` on every state.
    """

    def __init__(self, width: int, steps: int, outputs: tuple[int, ...], *, norm: bool) -> None:
        super().__init__(width)
        self.outputs = outputs
        self.steps = nn.ParameterList([torch.empty(width, 2 * width) for _ in range(steps)])
        self.norm: nn.Module = BatchStatistics() if norm else nn.Identity()

    @abstractmethod
    def plan(self, *told: Any) -> list[Node]:
        """The nodes of this pass, in order.

        Args:
            told: further arguments of the call of the language model.
        """

    def step(self, *told: Any) -> Transition:
        """The first state, the nodes of the plan, the mean."""
        nodes = self.plan(*told)

        def step(h: Tensor, c: Tensor, g: Tensor, h_mask: Tensor | None) -> Tensor:
            states = [self.norm(torch.lerp(h, g.tanh(), c.sigmoid()))]
            for node in nodes:
                states.append(node(states, h_mask))
            return torch.stack([states[i] for i in self.outputs]).mean(0)

        return step


class LanguageModel(nn.Module):
    """Embedding, cell, decoder whose matrix is the embedding's; weights uniform in [-0.04, 0.04].

    Words (N, T), or a :class:`Window` of them, in; logits (N, T, num_words) out. Further arguments of the call go to
    the cell.

    Args:
        num_words: number of words in the vocabulary.
        cell: cell that reads the words.
        drop: probabilities of dropout.
    """

    def __init__(self, num_words: int, cell: Unrolled, drop: Dropouts) -> None:
        super().__init__()
        self.embedding, self.cell, self.drop = nn.Embedding(num_words, cell.width), cell, drop
        self.bias = nn.Parameter(torch.zeros(num_words))
        for name, parameter in self.named_parameters():
            if name != "bias":
                nn.init.uniform_(parameter, -0.04, 0.04)

    def forward(self, x: Tensor | Window, *told: Any) -> Tensor:
        window = x if isinstance(x, Window) else Window(x)
        words, weight = window.words, self.embedding.weight
        drop = self.drop if self.training else Dropouts()
        (n, t), width = words.shape, self.cell.width
        embedded = F.embedding(words, masked(weight, mask((len(weight), 1), drop.words, weight)))
        embedded = masked(embedded, mask((n, 1, width), drop.input, embedded))
        before = embedded.new_zeros(n, self.cell.memory) if window.before is None else window.before.to(embedded)
        x_mask, h_mask = (mask((n, self.cell.layers * width), p, embedded) for p in (drop.x, drop.hidden))
        remembered = self.cell(embedded, before, x_mask, h_mask, *told)
        states = remembered[..., :width]
        window.states, window.after = states, remembered[:, -1].detach()
        read = masked(states, mask((n, 1, width), drop.output, states))
        return F.linear(read.reshape(n * t, width), weight, self.bias).view(n, t, -1)
