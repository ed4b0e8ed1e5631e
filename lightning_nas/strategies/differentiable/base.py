"""Base classes of strategies with one logit for each option."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Unpack

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim import Adam

from lightning_nas.architecture import Architecture
from lightning_nas.data.reader import Alternate
from lightning_nas.functional.relaxation import entropies, linear_schedule
from lightning_nas.latency.cost import ExpectedCost
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import Gated, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.loop import ArchSteps
from lightning_nas.strategies.options import OptimizerFactory, SchedulerFactory, SearchOptions
from lightning_nas.strategies.penalties import Costs, Penalty
from lightning_nas.strategies.usual import measured_here
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.seeding import KeyPart, generator


class DifferentiableSearch(SearchModule):
    """Base class of searches whose architecture parameters are logits ``theta[group]`` (choices, options).

    A method defines how logits become :meth:`gates` and the loss they are trained with. A method with its own
    ``arch_loss`` ends it with ``return self.penalised(loss)``.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging. None with a penalty measures the operations on this machine, which
            takes seconds and differs a little every time.
        theta_std: standard deviation of the initial logits; 0 for equal logits.
        penalty: how the expected cost enters the architecture loss; None to ignore costs.
        arch_optimizer: makes the optimiser of the architecture parameters from a list of parameter groups.
        arch_scheduler: makes its learning-rate schedule; one step an epoch. None: a constant rate.
        arch_clip: largest gradient norm of the architecture step; None for no clipping.
        alternate: "batch" takes both steps on every batch; "epoch" goes through all weights batches, then through all
            architecture batches.
        arch_every: take the architecture step on every n-th batch only (with ``alternate="batch"``).
        arch_warmup_epochs: epochs at the beginning without architecture steps.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.

    Raises:
        ConfigError: ``arch_every`` with ``alternate="epoch"``.
        LatencyTableError: the penalty is not defined for the costs of the table.
    """

    cost: ExpectedCost

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        theta_std: NonNegativeFloat = 1e-3,
        penalty: Penalty | None = None,
        arch_optimizer: OptimizerFactory = partial(Adam, lr=0.05, betas=(0.5, 0.999), weight_decay=1e-3),
        arch_scheduler: SchedulerFactory | None = None,
        arch_clip: PositiveFloat | None = None,
        alternate: Alternate = "batch",
        arch_every: PositiveInt = 1,
        arch_warmup_epochs: NonNegativeInt = 2,
        **options: Unpack[SearchOptions],
    ) -> None:
        if penalty and table is None:
            table = measured_here(space)
        arch = ArchSteps(arch_optimizer, arch_scheduler, arch_clip, alternate, arch_every, arch_warmup_epochs)
        super().__init__(space, task, table, arch=arch, **options)
        self.theta_std = theta_std
        self.theta = small_noise(space.gate_shapes, theta_std, self.seed, "theta")
        self._penalised = None
        if penalty and table is not None:
            self._penalised, self.cost = penalty.bind(Costs.of(space, table)), ExpectedCost(space, table)

    def arch_loss(self, batch: Batch) -> Tensor:
        return self.penalised(super().arch_loss(batch))

    def penalised(self, loss: Tensor, gates: Gates | None = None) -> Tensor:
        """``loss`` with the penalty, if there is one, of the expected cost under ``gates``.

        Args:
            loss: task loss, a scalar.
            gates: by default the :meth:`distribution`.
        """
        if self._penalised is None:
            return loss
        return self._penalised(loss, self.cost(gates or Gates.soft(self.distribution())))

    def arch_parameters(self) -> list[nn.Parameter]:
        return [self.theta[group] for group in self.space.gate_shapes]

    def distribution(self) -> dict[str, Tensor]:
        """The :meth:`probabilities`, with gradient."""
        return {group: self.theta[group].softmax(-1) for group in self.space.gate_shapes}

    @torch.no_grad()
    def probabilities(self) -> dict[str, Tensor]:
        return self.distribution()

    def sample(self, generator: torch.Generator) -> Architecture:
        """One architecture, each choice drawn from its probabilities."""
        drawn = {}
        for group, probabilities in self.probabilities().items():
            index = torch.multinomial(probabilities.cpu(), 1, generator=generator)
            drawn[group] = torch.zeros(probabilities.shape).scatter_(1, index, 1.0)
        return self.space.derive(drawn)

    def validated(self) -> nn.Module:
        """The supernet with every option weighted by its probability."""
        return Gated(self.supernet, Gates.soft(self.probabilities()))

    def log_search(self) -> None:
        self.log_batch("arch/entropy", torch.cat([entropies(p) for p in self.probabilities().values()]).mean())
        if self._penalised and self.table:
            with torch.no_grad():
                expected = self.cost(Gates.soft(self.probabilities()))
            self.log_batch(f"latency/expected_{self.table.unit}", expected, prog_bar=True)


class AnnealedSearch(DifferentiableSearch):
    """Base class of searches whose gates have a temperature, by default linear in the epoch.

    Attributes:
        temperature: in the first epoch.
        last_temperature: in the last epoch.
    """

    temperature: float
    last_temperature: float

    @property
    def tau(self) -> float:
        """The temperature of the current epoch."""
        return linear_schedule(self.temperature, self.last_temperature, self.current_epoch, self.epochs)

    def log_search(self) -> None:
        super().log_search()
        self.log_batch("arch/temperature", self.tau)


def small_noise(shapes: Mapping[str, tuple[int, ...]], std: float, *key: KeyPart) -> nn.ParameterDict:
    """Parameters of N(0, std^2), drawn in order from the generator of ``key``."""
    draw = generator(*key)
    return nn.ParameterDict({name: torch.randn(shape, generator=draw) * std for name, shape in shapes.items()})
