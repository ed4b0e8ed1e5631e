"""A warm start of searches by trials (Abdelfattah, Mehrotra, Dudziak and Lane, ICLR 2021, arXiv:2101.08134).

Architectures are drawn from the space and scored without training; the search begins with the best of them instead of
with random ones. The paper calls it warm-up.

Differs from the paper: there an evolution begins with the best of a few thousand, a policy is trained on scores before
it is trained on rewards. Here every search by trials trains the best few first and learns from their rewards.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import torch
from annotated_types import Interval

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError, shown
from lightning_nas.proxies.named import OF_NETWORKS, ProxyName
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.trials.proxy_child import fresh_scores

log = logging.getLogger(__name__)

Many = Annotated[int, Interval(ge=1, le=100_000)]
WarmStartSettings = Mapping[str, ProxyName | Many]
"""``proxy``, the name of a score; ``draw``, how many architectures are scored; ``take``, how many of them are taken."""


@dataclass(frozen=True)
class WarmStart:
    """How a search begins.

    Attributes:
        proxy: name of the score.
        draw: architectures that are drawn and scored.
        take: those with the highest scores, which are taken.

    Example:
        >>> WarmStart.of({"proxy": "macs", "take": 4})
        WarmStart(proxy='macs', draw=200, take=4)
    """

    proxy: ProxyName
    draw: int = 200
    take: int = 10

    @classmethod
    def of(cls, settings: WarmStartSettings) -> WarmStart:
        """The settings with their defaults.

        Raises:
            ConfigError: another key, no score, or more are taken than drawn.
        """
        legal = "proxy, the name of a score; draw, 200 by default; take, 10 by default"
        given: dict[str, Any] = dict(settings)
        if given.keys() - {"proxy", "draw", "take"} or given.get("proxy") not in get_args(ProxyName):
            raise ConfigError(f"strategy.warm_start={shown(given)}; legal: a mapping with {legal}")
        made = cls(**given)
        if any(type(count) is not int for count in (made.draw, made.take)) or made.take > made.draw:
            raise ConfigError(f"strategy.warm_start={shown(given)}; legal: take at most draw, {made.draw}")
        return made

    @property
    def looks_at_data(self) -> bool:
        """Whether the score depends on training images."""
        return self.proxy not in OF_NETWORKS

    def check_space(self, space: SearchSpace) -> None:
        """Refuse networks that cannot be scored.

        Raises:
            ConfigError: they take words.
        """
        if not space.input_dtype.is_floating_point:
            raise ConfigError(
                f"strategy.warm_start: scores are of networks of images, and those of {space.name} take words; "
                "legal: null"
            )

    def best(
        self,
        space: SearchSpace,
        data: SearchData | None,
        task: Task,
        seed: int,
        rng: torch.Generator,
        *,
        keeps: Callable[[Architecture], bool] = lambda _: True,
    ) -> list[tuple[Architecture, float]]:
        """The architectures with the highest scores, and their scores, the best first.

        Fewer than :attr:`take` where fewer keep the target or have a finite score.

        Args:
            space: of images.
            data: set up; scores look at its first training images. None where :attr:`looks_at_data` is false.
            task: whose loss some scores take.
            seed: of the weights of the networks and of what scores draw.
            rng: draws the architectures.
            keeps: whether an architecture may be taken.
        """
        drawn = [architecture for architecture in space.different(self.draw, rng) if keeps(architecture)]
        return self._taken(drawn, fresh_scores(self.proxy, space, drawn, data, task, seed))

    def _taken(self, drawn: Sequence[Architecture], found: Sequence[float]) -> list[tuple[Architecture, float]]:
        finite = [place for place, score in enumerate(found) if math.isfinite(score)]
        places = sorted(finite, key=lambda place: -found[place])[: self.take]
        if not places:
            log.warning("warm start: %s is defined for none of %d architectures", self.proxy, len(drawn))
            return []
        log.info(
            "warm start: begins with the best %d of %d random architectures by %s, %g to %g; the median of all is %g",
            *(len(places), len(drawn), self.proxy, found[places[-1]], found[places[0]]),
            statistics.median(found),
        )
        return [(drawn[place], found[place]) for place in places]
