"""A candidate that is scored without training, in the place of a child that is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.errors import NumericalError
from lightning_nas.proxies.base import Proxy
from lightning_nas.proxies.logsynflow import LogSynflow
from lightning_nas.proxies.named import OF_NETWORKS, ProxyName, scores
from lightning_nas.signature import Checked
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.training.seeding import generator, seeded
from lightning_nas.trials.judge import Judge
from lightning_nas.trials.requests import Request

_IMAGES = 64  # of the batch that scores by name look at


class ProxyChild(Checked, Judge):
    """Score a fresh network of each candidate on one batch, instead of training it.

    The batch is the first of the training part, the same for all candidates. Every strategy by trials can search on
    the score. Strategies expect rewards of 0 to 1, and 0 is that of a candidate that failed, so the figure of a
    candidate is :func:`as_reward` of its score, which keeps the order. A score that is not finite is a failure that
    says so.

    Args:
        proxy: the score; None for :class:`~lightning_nas.proxies.logsynflow.LogSynflow`.
        images: size of the batch, fewer if the training part has fewer.

    Example:
        >>> from lightning_nas.tasks.classification import Classification
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> space, data = ToySpace(), ToyData(images=256)
        >>> data.setup("fit")
        >>> response = ProxyChild(images=8).work(Request(0, 1, space.best, seed=0), space, data, Classification())
        >>> response.status, len(response.curve)
        ('finished', 1)
    """

    images_only = True

    def __init__(self, *, proxy: Proxy | None = None, images: Annotated[int, Interval(ge=2, le=4096)] = 64) -> None:
        self.proxy, self.images = LogSynflow() if proxy is None else proxy, images

    def curve(self, request: Request, space: SearchSpace, data: SearchData, task: Task) -> list[float]:
        return [as_reward(self.score(request, space, data, task))]

    def score(self, request: Request, space: SearchSpace, data: SearchData, task: Task) -> float:
        """The score itself.

        Raises:
            NumericalError: it is not finite.
        """
        architecture = space.validate(request.architecture)
        network = fresh(space, architecture, request.seed)
        rng = generator(request.seed, "proxy", architecture.key)
        score = self.proxy(network, first_images(data, self.images), task.loss, rng)
        if not math.isfinite(score):
            raise NumericalError(f"{type(self.proxy).__name__} of this network is {score}: it is not defined")
        return score


def fresh(space: SearchSpace, architecture: Architecture, seed: int) -> nn.Module:
    """The network of an architecture with the weights that a short training with this seed begins with."""
    with seeded(seed, "truth", architecture.key):
        return space.network(architecture)


def first_images(data: SearchData, count: int) -> tuple[Tensor, Tensor]:
    """The first images of the training part with their targets, at most ``count``; the same at every call."""
    [(x, y)] = data.calibration_batches(1)
    if len(x) < count:
        batches = data.calibration_batches(math.ceil(count / len(x)))
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return x[:count], y[:count]


def fresh_scores(
    name: ProxyName,
    space: SearchSpace,
    architectures: Sequence[Architecture],
    data: SearchData | None,
    task: Task,
    seed: int,
) -> list[float]:
    """Scores of the fresh networks of architectures.

    Args:
        name: of the score.
        space: of the architectures, of networks of images.
        architectures: to be scored.
        data: set up; a score looks at the first 64 training images. None for scores that look at none.
        task: whose loss some scores take.
        seed: of the weights, and of what a score draws.

    Returns:
        Minus infinity where a score is not finite.

    Example:
        >>> from lightning_nas.tasks.classification import Classification
        >>> from lightning_nas.testing.toys import ToySpace
        >>> space = ToySpace()
        >>> fresh_scores("params", space, [space.best], None, Classification(), seed=0)
        [320.0]
    """
    if name in OF_NETWORKS:
        batch = space.example(2, generator(seed, "example")), torch.zeros(2)
    else:
        assert data is not None, f"{name} looks at images"
        batch = first_images(data, _IMAGES)
    networks = (fresh(space, architecture, seed) for architecture in architectures)
    return scores(name, networks, batch, task.loss, seed)


def as_reward(score: float) -> float:
    r"""A score of any size as a reward between 0 and 1, in the same order.

    .. math:: \frac{1}{2} \left(1 + \operatorname{sgn}(s) \frac{\ell}{1 + \ell}\right), \quad \ell = \ln(1 + |s|)

    >>> as_reward(0.0), round(as_reward(1e6), 3), round(as_reward(-1e6), 3)
    (0.5, 0.966, 0.034)
    """
    size = math.log1p(abs(score))
    return 0.5 + math.copysign(size / (1 + size), score) / 2


def score_of(reward: float) -> float:
    """The inverse of :func:`as_reward`, to about 12 digits.

    >>> round(score_of(as_reward(-123456.789)), 6)
    -123456.789
    """
    share = 2 * reward - 1
    return math.copysign(math.expm1(abs(share) / (1 - abs(share))), share)
