"""What strategies that learn one logit per option share."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.functional.relaxation import entropies, linear_schedule
from lightning_nas.latency.cost import ExpectedCost
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import Gated, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.alternating import AlternatingSearch
from lightning_nas.strategies.penalties import Costs, Penalty
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.seeding import KeyPart, generator


class DifferentiableSearch(AlternatingSearch):
    """Architecture parameters are logits ``theta[group]`` (choices, options).

    A paper's file says how logits become gates, and with what loss they are trained. Where it writes an
    ``arch_loss`` of its own, that ends with ``return self.penalised(loss)``.

    Args:
        space: any space with a supernet.
        task: what the network is for.
        table: cost of every operation, if it is to be shown; needed by a penalty.
        theta_std: standard deviation of the logits at the beginning; 0 for equal ones.
        penalty: how the expected cost enters the loss of the architecture step; None for not at all.
        options: of :class:`~lightning_nas.strategies.alternating.AlternatingSearch`.

    Raises:
        ConfigError: a penalty without a table.
        LatencyTableError: the penalty is not defined for the table's costs.
    """

    cost: ExpectedCost

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        theta_std: NonNegativeFloat = 0.0,
        penalty: Penalty | None = None,
        **options: Any,
    ) -> None:
        if penalty and table is None:
            raise ConfigError("a latency penalty needs a latency table: latency_table=measured, macs, params or file")
        super().__init__(space, task, table, **options)
        self.theta = small_noise(space.gate_shapes, theta_std, self.seed, "theta")
        self._penalised = None
        if penalty and table is not None:
            self._penalised, self.cost = penalty.bind(Costs.of(space, table)), ExpectedCost(space, table)

    def arch_loss(self, batch: Batch) -> Tensor:
        return self.penalised(super().arch_loss(batch))

    def penalised(self, loss: Tensor, gates: Gates | None = None) -> Tensor:
        """``loss`` with the penalty, if there is one, of the cost expected under ``gates``.

        Args:
            loss: the task's, a scalar.
            gates: by default the :meth:`distribution`.
        """
        if self._penalised is None:
            return loss
        return self._penalised(loss, self.cost(gates or Gates.soft(self.distribution())))

    def arch_parameters(self) -> list[nn.Parameter]:
        return [self.theta[group] for group in self.space.gate_shapes]

    def distribution(self) -> dict[str, Tensor]:
        """What :meth:`probabilities` gives, with gradient."""
        return {group: self.theta[group].softmax(-1) for group in self.space.gate_shapes}

    @torch.no_grad()
    def probabilities(self) -> dict[str, Tensor]:
        return self.distribution()

    def sample(self, generator: torch.Generator) -> Architecture:
        """Each choice drawn from its probabilities."""
        drawn = {}
        for group, probabilities in self.probabilities().items():
            index = torch.multinomial(probabilities.cpu(), 1, generator=generator)
            drawn[group] = torch.zeros(probabilities.shape).scatter_(1, index, 1.0)
        return self.space.derive(drawn)

    def validated(self) -> nn.Module:
        """The supernet itself, every option weighted by its probability."""
        return Gated(self.supernet, Gates.soft(self.probabilities()))

    def log_search(self) -> None:
        self.log_batch("arch/entropy", torch.cat([entropies(p) for p in self.probabilities().values()]).mean())
        if self._penalised and self.table:
            with torch.no_grad():
                expected = self.cost(Gates.soft(self.probabilities()))
            self.log_batch(f"latency/expected_{self.table.unit}", expected, prog_bar=True)


class AnnealedSearch(DifferentiableSearch):
    """A search whose gates have a temperature, linear in the epoch unless :attr:`tau` says otherwise.

    Attributes:
        temperature: in the first epoch.
        last_temperature: in the last epoch.
    """

    temperature: float
    last_temperature: float

    @property
    def tau(self) -> float:
        """The temperature of the current epoch."""
        epochs = int(self.trainer.max_epochs or 1)
        return linear_schedule(self.temperature, self.last_temperature, self.current_epoch, epochs)

    def log_search(self) -> None:
        super().log_search()
        self.log_batch("arch/temperature", self.tau)


def small_noise(shapes: Mapping[str, tuple[int, ...]], std: float, *key: KeyPart) -> nn.ParameterDict:
    """Parameters of N(0, std^2), drawn in order from the generator of ``key``."""
    draw = generator(*key)
    return nn.ParameterDict({name: torch.randn(shape, generator=draw) * std for name, shape in shapes.items()})
