"""AttentiveNAS (Wang et al., CVPR 2021, arXiv:2011.09011): the training of BigNAS that attends to a Pareto front.

The drawn architectures of a batch are not uniform. For each of them a cost is drawn, some architectures of about this
cost, and the one of them is trained that has the lowest loss on the batch (best-up: the front that an evolution will
look for) or the highest (worst-up: the one that holds the supernet back). All else is that of
:class:`~lightning_nas.strategies.one_path.bignas.BigNAS`.

The costs are those of uniformly drawn architectures, so the prior of the paper, the distribution of costs in the space,
holds by construction: the first candidate is drawn uniformly, and the others until they are in the same of ``bins`` of
equal width between the cheapest and the most expensive network that the space names. Where ``TRIES`` draws do not find
enough, fewer candidates are compared.

Losses are those of the batch, of all processes together, in training mode without dropout. Their forward passes need no
gradient, and cost about a third of a training pass each.

Differs from the paper: candidates are compared by their loss on the batch, which the authors' code does too, not by a
predictor of accuracies that is fitted to an earlier supernet; costs are drawn by drawing an architecture, not from a
table of frequencies. As in BigNAS the largest network alone is regularised.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Unpack

import torch
from annotated_types import Interval
from pydantic import PositiveFloat
from torch import Tensor

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.strategies.one_path.bignas import BigNAS, undropped
from lightning_nas.strategies.one_path.spos import Nested
from lightning_nas.strategies.options import SearchOptions
from lightning_nas.tasks.base import Batch, Task

TRIES = 100
"""Draws for each candidate beside the first."""


class AttentiveNAS(BigNAS):
    r"""BigNAS whose drawn networks are the best or the worst of some of equal cost (AttentiveNAS).

    .. math:: a_i = \arg\min_{a \in \{a^1, \dots, a^k\}} L(f_a(x; w), y), \qquad \mathrm{cost}(a^j) \approx \tau_i
              \sim \pi(\tau)

    with the largest loss for ``attend="worst"``. :math:`\pi` is the distribution of costs under uniform draws.

    Source: Wang et al., CVPR 2021, arXiv:2011.09011, sections 3 and 4. Deviations: see the module.

    Args:
        space: elastic space, or a network of one's own: its networks are parts of a largest one.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation; needed for a limit, and decides between equal scores. None: candidates are alike
            in multiply-adds.
        attend: "best" or "worst": which of the candidates is trained.
        candidates: architectures of about one cost that are compared, 3 in the authors' training.
        bins: number of costs that are told apart.
        between: architectures trained for each batch, beside the largest and the smallest.
        generations: of the evolution, the random first one included.
        population: architectures of a generation.
        parents: number of the best architectures that have children.
        mutation: probability of each decision of a parent to be drawn anew.
        limit: upper bound of the cost of every candidate, in the unit of the table; None for no bound.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.

    Raises:
        ConfigError: networks of the space are not parts of a largest one; a limit without a table, or below the
            cheapest architecture.

    Example:
        >>> from lightning_nas.spaces.elastic.attentive_nas import AttentiveNASSpace
        >>> from lightning_nas.testing.toys import ToyData
        >>> from lightning_nas.training.network import quiet_trainer
        >>> stages = [((8, 16), (1, 2), (3,), (1,), 1, False)]
        >>> sizes = {"image_size": 4, "in_channels": 1, "num_classes": 4, "resolutions": [4]}
        >>> space = AttentiveNASSpace(**sizes, stem=[8], stem_stride=1, stages=stages, mix=[16], spare_shortcuts=False)
        >>> search = AttentiveNAS(space, generations=2, population=3, parents=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 8}, 'attentive_nas')
    """

    defaults: ClassVar[SearchOptions] = BigNAS.defaults

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        attend: Literal["best", "worst"] = "best",
        candidates: Count = 3,
        bins: Count = 25,
        between: Count = 2,
        generations: Count = 10,
        population: Count = 20,
        parents: Count = 10,
        mutation: Annotated[float, Interval(ge=0, le=1)] = 0.1,
        limit: PositiveFloat | None = None,
        **options: Unpack[SearchOptions],
    ) -> None:
        super().__init__(
            space,
            task,
            table,
            between=between,
            generations=generations,
            population=population,
            parents=parents,
            mutation=mutation,
            limit=limit,
            **AttentiveNAS.defaults | options,
        )
        self.attend, self.candidates, self.bins = attend, candidates, bins
        self._priced = table or LatencyTable.macs(space)
        assert isinstance(space, Nested)
        ends = [space.cost(architecture, self._priced) for architecture in (space.smallest, space.largest)]
        self._low, self._step = min(ends), max(abs(ends[1] - ends[0]) / bins, 1e-12)

    def bin_of(self, architecture: Architecture) -> int:
        """Number of the bin of an architecture's cost; below 0 or beyond ``bins`` for costs outside of the two ends."""
        return int((self.space.cost(architecture, self._priced) - self._low) // self._step)

    def alike(self, draw: torch.Generator) -> list[Architecture]:
        """Architectures of about one cost: the first is drawn uniformly."""
        found = [self.kept(self.sample(draw), draw)]
        wanted = self.bin_of(found[0])
        for _ in range(TRIES * (self.candidates - 1)):
            if len(found) == self.candidates:
                break
            drawn = self.kept(self.sample(draw), draw)
            if self.bin_of(drawn) == wanted and drawn not in found:
                found.append(drawn)
        return found

    def taken(self, batch: Batch, draw: torch.Generator) -> Architecture:
        """The best or the worst of some architectures of about one cost by their losses on a batch."""
        found = self.alike(draw)
        if len(found) == 1:
            return found[0]
        losses = self.trainer.strategy.reduce(self.losses(found, batch), reduce_op="mean")  # alike in all processes
        place = losses.argmin() if self.attend == "best" else losses.argmax()
        return found[int(place)]

    @torch.no_grad()
    def losses(self, architectures: Sequence[Architecture], batch: Batch) -> Tensor:
        """Loss of each architecture on a batch, as it trains but without dropout, (architectures,)."""
        with undropped(self.supernet):
            paths = [self.space.gates(architecture).to(self.device) for architecture in architectures]
            return torch.stack([self.held_out_loss(batch, path) for path in paths])
