"""What strategies that learn one logit per option share."""

from typing import Any

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.functional.relaxation import entropy
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.tasks.base import Task
from lightning_nas.training.seeding import generator


class DifferentiableSearch(SearchModule):
    """Architecture parameters are logits ``theta[group]`` (choices, options).

    A paper's file says how logits become gates, and with what loss they are trained.

    Args:
        space: any space with a supernet.
        task: what the network is for.
        table: cost of every operation, if it is to be shown or penalised.
        theta_std: standard deviation of the logits at the beginning; 0 for equal ones.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        theta_std: NonNegativeFloat = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(space, task, table, **options)
        draw = generator(self.seed, "theta")
        self.theta = nn.ParameterDict(
            {
                group: nn.Parameter(torch.randn(shape, generator=draw) * theta_std)
                for group, shape in space.gate_shapes.items()
            }
        )

    def arch_parameters(self) -> list[nn.Parameter]:
        return [self.theta[group] for group in self.space.gate_shapes]

    @torch.no_grad()
    def probabilities(self) -> dict[str, Tensor]:
        return {group: self.theta[group].softmax(-1) for group in self.space.gate_shapes}

    def sample(self, generator: torch.Generator) -> Architecture:
        """Each choice drawn from its probabilities."""
        drawn = {}
        for group, probabilities in self.probabilities().items():
            index = torch.multinomial(probabilities.cpu(), 1, generator=generator)
            drawn[group] = torch.zeros(probabilities.shape).scatter_(1, index, 1.0)
        return self.space.derive(drawn)

    def log_search(self) -> None:
        rows = torch.stack([entropy(p) * len(p) for p in self.probabilities().values()]).sum()
        self.log_batch("arch/entropy", rows / sum(choices for choices, _ in self.space.gate_shapes.values()))
