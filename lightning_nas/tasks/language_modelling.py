"""Language modelling: predicting the next word."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection

from lightning_nas.errors import InputError
from lightning_nas.ops.recurrent import Window
from lightning_nas.tasks.base import Batch, Task

_ROWS = 256


class Perplexity(Metric):
    r"""Perplexity of all words, from logits (..., V) and targets (...), accumulated in float64.

    .. math:: \mathrm{ppl} = \exp\Big(-\frac{1}{n} \sum_{i=1}^{n} \log p(w_i)\Big)

    ``torchmetrics.text.Perplexity`` is equally fast, but adds up in float32: after 4.5 million words its result is off
    by 1 in 10,000, and from 16.8 million words on it no longer counts every word. This class is off by 1 in 10 million
    after 4.5 million words.

    >>> metric = Perplexity()
    >>> metric.update(torch.zeros(2, 3, 50), torch.zeros(2, 3, dtype=torch.int64))
    >>> round(float(metric.compute()), 3)
    50.0
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output: Tensor, target: Tensor) -> None:
        logits, words = output.flatten(0, -2), target.flatten()
        for i in range(0, len(words), _ROWS):  # a float copy of all logits at once is slower
            one, other = logits[i : i + _ROWS].float(), words[i : i + _ROWS]
            self.total += F.cross_entropy(one, other, reduction="sum")
        self.count += target.numel()

    def compute(self) -> Tensor:
        return (self.total / self.count).exp()


class LanguageModelling(Task):
    r"""Language modelling: cross entropy per word, and its exponential, the perplexity (``ppl``).

    Outputs are logits (N, T, V), targets int64 (N, T). The hidden state of a recurrent network is passed from each
    window of text to the next, in training and in evaluation; gradients end at the beginning of the window (truncated
    back-propagation through time). Other networks, such as transformers, are given the words of their window alone.
    Architectures are ranked by 1 / ppl, the geometric mean of the probabilities of the words. The loss of a
    weights step on hidden states :math:`h_t` is

    .. math:: L = -\frac{1}{NT} \sum_{n, t} \log p(w_{n, t}) + \beta\, \overline{(h_{t + 1} - h_t)^2}

    Args:
        slowness: :math:`\beta`, weight of the mean squared change of the hidden state from word to word (temporal
            activation regularisation, Merity et al., 2017, arXiv:1708.01009). As in DARTS' code it is no part of the
            architecture's loss. Differs from that code: it is part of the virtual weights step of the second order.
        reward_scale: the reward is this number divided by ppl (80 in Pham et al., ICML 2018, arXiv:1802.03268).

    Example:
        >>> task = LanguageModelling()
        >>> logits, words = torch.zeros(2, 3, 50), torch.zeros(2, 3, dtype=torch.int64)
        >>> round(float(task.loss(logits, words).exp()), 3), task.reward(50.0)
        (50.0, 1.6)
    """

    score_name = "ppl"
    targets = "words"

    def __init__(self, slowness: NonNegativeFloat = 1.0e-3, reward_scale: PositiveFloat = 80.0) -> None:
        self.slowness, self.reward_scale = slowness, reward_scale

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if output.shape[:-1] != target.shape:
            raise InputError(
                f"the network gives logits {tuple(output.shape)} for words {tuple(target.shape)}; language modelling "
                "needs logits (N, T, words of the vocabulary) for words (N, T)"
            )
        return F.cross_entropy(output.flatten(0, -2), target.flatten())

    def training_loss(self, output: Tensor, batch: Batch) -> Tensor:
        x, y = batch
        loss = self.loss(output, y)
        if self.slowness and isinstance(x, Window) and x.states is not None and x.states.shape[1] > 1:
            loss = loss + self.slowness * x.states.diff(dim=1).square().mean()
        return loss

    def metrics(self, num_classes: int, *, synced: bool = True) -> MetricCollection:
        return MetricCollection({"ppl": Perplexity(sync_on_compute=synced)}, compute_groups=False)

    def continued(self, x: Any, before: Tensor | None) -> Window:
        return Window(x, before)

    def remembered(self, x: Any) -> Tensor | None:
        return x.after if isinstance(x, Window) else None

    def score(self, network: nn.Module, batches: Iterable[Batch], num_classes: int) -> float:
        """1 / ppl; 0 for a network whose perplexity is not a number."""
        return _likelihood(self.evaluate(network, batches, num_classes))

    def reward(self, figure: float) -> float:
        """``reward_scale / ppl``; 0 where :meth:`score` is."""
        return self.reward_scale * _likelihood(figure)


def _likelihood(ppl: float) -> float:
    return 0.0 if math.isnan(ppl) else 1 / ppl
