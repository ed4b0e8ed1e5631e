"""What every weight-sharing search is: a supernet, gates, and what it would answer.

Of itself a search trains one architecture a batch, the one it samples. What learns architecture parameters by gradient
is in :mod:`lightning_nas.strategies.alternating`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ops.mixed import Mix
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.evolution import Candidate
from lightning_nas.strategies.loop import WeightsLoop
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.recalibrate import recalibrate
from lightning_nas.training.seeding import generator


class SearchModule(WeightsLoop):
    """A search on a space with shared weights.

    Subclasses implement :meth:`sample`, and where the paper asks for it :meth:`probabilities`, :meth:`gates`,
    :meth:`weights_loss`, :meth:`derive` and :meth:`answer`.

    Args:
        space: what can be built.
        task: what for.
        table: what each operation costs, for strategies that look at it and for what is shown.
        mix: how the supernet mixes the options of a choice; the space's own form unless given.
        score_batches: batches used to recalibrate batch norm, and at most used to score, one architecture.
        options: of :class:`~lightning_nas.strategies.loop.WeightsLoop`.

    Attributes:
        scored: the architectures :meth:`answer` chose from, with their scores; empty if it did not score any.
        evolved: the same with their generations, if it chose by evolution.
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        score_batches: PositiveInt = 8,
        mix: Mix | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.space, self.task, self.table = space, task, table
        self.supernet = space.supernet(mix)
        self.score_batches = score_batches
        self.scored: dict[Architecture, float] = {}
        self.evolved: list[Candidate] = []
        self._metrics = task.metrics(space.num_classes)

    # -- what a strategy says of itself -------------------------------------------------------------------------

    def gates(self, generator: torch.Generator) -> Gates:
        """Gates for one training forward pass: of one sample; differentiable where architecture parameters learn."""
        return self.space.gates(self.sample(generator)).to(self.device)

    def probabilities(self) -> dict[str, Tensor]:
        """``{group: (choices, options)}``: how likely each option is now; rows sum to one. Without gradient.

        Unless a strategy knows them: how often each option occurs in 1,000 samples, always of one generator.
        """
        count = 1000
        drawn = Counter(self.draw(count, generator(self.seed, "probabilities")))
        shares = torch.tensor(list(drawn.values())) / count
        gates = [self.space.gates(architecture).values for architecture in drawn]
        rows = {group: torch.stack([values[group] for values in gates], -1) for group in self.space.gate_shapes}
        return {group: options @ shares for group, options in rows.items()}

    def draw(self, count: int, generator: torch.Generator) -> Sequence[Architecture]:
        """``count`` samples; a strategy may have a faster way than one after another."""
        return [self.sample(generator) for _ in range(count)]

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Architecture:
        """What this strategy would try now."""

    def derive(self) -> Architecture:
        """What it would answer now, by the space's own discretisation."""
        return self.space.derive(self.probabilities())

    def answer(self) -> Architecture:
        """The answer at the end of the search; a strategy may take more time for it than for :meth:`derive`."""
        return self.derive()

    def weights_loss(self, batch: Batch) -> Tensor:
        """Loss of the weights step: the task's, under this batch's gates."""
        return self.task_loss(batch, self.gates(self.generator("weights")))

    def task_loss(self, batch: Batch, gates: Gates) -> Tensor:
        """The task's loss of the supernet under ``gates``, with what regularises the weights."""
        return self.task.training_loss(self.supernet(batch[0], gates), batch)

    def held_out_loss(self, batch: Batch, gates: Gates) -> Tensor:
        """The same without: of two architectures the better is the one that fits what its weights have not seen."""
        return self.task.loss(self.supernet(batch[0], gates), batch[1])

    def weight_parameters(self) -> list[nn.Parameter]:
        """The shared weights, in definition order."""
        return list(self.supernet.parameters())

    @property
    def data(self) -> SearchData:
        """The trainer's data module."""
        data: SearchData = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    # -- how good an architecture is ----------------------------------------------------------------------------

    def score(self, architecture: Architecture, batches: Sequence[Sequence[Batch]] | None = None) -> float:
        """How good the search believes an architecture to be: inherited weights, batch norm recalibrated.

        Args:
            architecture: of this space.
            batches: what to recalibrate on and what to score on; by default ``score_batches`` batches of the
                training parts and of the validation part of the trainer's data module.

        Returns:
            The task's score, higher is better.
        """
        calibration, evaluation = batches or self.data.score_batches(self.score_batches)
        network = self.inherited(architecture)
        recalibrate(network, calibration)
        return self.task.score(network, evaluation, self.space.num_classes)

    def inherited(self, architecture: Architecture) -> nn.Module:
        """The network of ``architecture`` with a copy of the shared weights: what :meth:`score` scores."""
        return self.space.extract(self.supernet, architecture)

    @torch.no_grad()
    def path_reward(self, batch: Batch, gates: Gates) -> float:
        """What a path of the supernet is worth on a batch, as the task rewards; normalised by the batch itself."""
        x, y = batch
        metrics = self.task.metrics(self.space.num_classes, synced=False).to(y.device)
        metrics.update(self.supernet(x, gates), y)
        return self.task.reward(float(metrics.compute()[self.task.score_name]))

    def validated(self) -> nn.Module:
        """What validation looks at: the network of one sample, weights inherited, batch norm recalibrated."""
        network = self.inherited(self.sample(self.generator("validation")))
        recalibrate(network, self.data.score_batches(self.score_batches)[0])
        return network

    def on_validation_epoch_start(self) -> None:
        self._validated = (self.validated(),)  # in a tuple, so that it is no part of this module

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and figures of merit of :meth:`validated`."""
        x, y = batch
        output = self._validated[0](x)
        self._metrics.update(output, y)
        self.log("val/loss", self.task.loss(output, y), sync_dist=True, batch_size=len(y))

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self._metrics.compute().items()}, prog_bar=True)
        self._metrics.reset()
