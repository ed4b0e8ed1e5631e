"""Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791): progressive shrinking of one network to all of its parts.

First the largest network is trained alone. A copy of it, which stays as it is, then teaches: every batch trains some
drawn networks on the labels and on its outputs. What may be drawn grows in phases: kernels, then depths, then widths
(expansions, heads, embeddings), at first only the two largest options of depths and widths, then all. The resolution is
drawn for every batch from the beginning, one for all of its networks.

A phase that a space has no decisions for trains what the phases before it have freed. The phases are shares of all
batches, not numbers of epochs, so that a short search has all of them.

Differs from the paper: the channels are not sorted by importance before widths are freed, so what a narrow network
keeps are the first channels, as in BigNAS; the shares stand for 180, 120, 145 and 145 epochs, of which the first 25 of
the latter two allow two options; the rates of the phases are shares of one rate, without warm-up; the answer comes from
an evolution on validation scores, without a predictor of accuracies. As in the authors' code the teacher computes with
the statistics of the batch.
"""

import copy
from functools import partial
from itertools import accumulate
from typing import Annotated, ClassVar, Unpack

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.optim import SGD

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.strategies.one_path.bignas import undropped
from lightning_nas.strategies.one_path.spos import SPOS, Nested, check_nested
from lightning_nas.strategies.options import SearchOptions
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.schedules import cosine_phases

FREED = ("resolution", "kernel", "depth", "width")
"""Kinds of decisions in the order of the phases: the first is free in the phase of the full network already."""
FEW = 25 / 145
"""Share of the phases of depths and widths in which only the two largest options are drawn."""

Shares = tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat]


class OFA(SPOS):
    r"""Progressive shrinking (Once-for-All): a trained largest network teaches ever smaller parts of itself.

    .. math:: L(w) = \sum_{i=1}^{n} \mathrm{CE}(f_{a_i}(x; w), y)
              + \beta\, \mathrm{CE}\big(f_{a_i}(x; w),\, f_{\max}(x; w_{\mathrm{full}})\big),
              \qquad a_i \sim U(\text{what the phase has freed})

    Sampled networks need not keep a target: one training serves all targets, and the evolution keeps them.

    Source: Cai et al., ICLR 2020, arXiv:1908.09791, sections 3.2 and 3.3, and mit-han-lab/once-for-all f03b267.
    Deviations: see the module.

    Args:
        space: elastic space, or a network of one's own: its networks are parts of a largest one.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation; needed for a limit, and decides between equal scores.
        shares: of the batches, for the phases of the full network, kernels, depths and widths; they are divided by
            their sum.
        networks: trained for each batch of the last three phases.
        distillation: weight of the teacher's outputs beside the labels; 0 for labels alone.
        generations: of the evolution, the random first one included.
        population: architectures of a generation.
        parents: number of the best architectures that have children.
        mutation: probability of each decision of a parent to be drawn anew.
        limit: upper bound of the cost of every candidate, in the unit of the table; None for no bound.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.

    Attributes:
        teacher: the full network; untrained until the first phase has ended.

    Raises:
        ConfigError: networks of the space are not parts of a largest one; a limit without a table, or below the
            cheapest architecture.

    Example:
        >>> from torch import nn
        >>> from lightning_nas.spaces.own.space import FromModel
        >>> from lightning_nas.testing.toys import ToyData
        >>> from lightning_nas.training.network import quiet_trainer
        >>> layers = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)
        >>> space = FromModel(nn.Sequential(*layers), (1, 1, 4, 4))
        >>> search = OFA(space, generations=2, population=3, parents=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 8}, 'from_model')
    """

    nests: ClassVar[bool] = True
    defaults: ClassVar[SearchOptions] = {
        "weights_optimizer": partial(SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=3e-5),
        "weights_scheduler": cosine_phases(),
    }

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        shares: Shares = (0.4, 0.2, 0.2, 0.2),
        networks: tuple[Count, Count, Count] = (1, 2, 4),
        distillation: NonNegativeFloat = 1.0,
        generations: Count = 10,
        population: Count = 20,
        parents: Count = 10,
        mutation: Annotated[float, Interval(ge=0, le=1)] = 0.1,
        limit: PositiveFloat | None = None,
        **options: Unpack[SearchOptions],
    ) -> None:
        check_nested(space, "strategy=ofa")
        super().__init__(
            space,
            task,
            table,
            sampling="sandwich",
            generations=generations,
            population=population,
            parents=parents,
            mutation=mutation,
            limit=limit,
            **OFA.defaults | options,
        )
        self.shares, self.networks, self.distillation = shares, networks, distillation
        self.teacher = frozen_copy(self.supernet)

    # -- phases -------------------------------------------------------------------------------------------------

    def phase(self, position: int) -> tuple[int, bool]:
        """Number of the phase of a batch, from 0, and whether depths or widths that it frees are only the two largest.

        The first batch is of the full network, however small its share.
        """
        batches = self.trainer.num_training_batches * (self.trainer.max_epochs or 1)
        ends = [end / sum(self.shares) * batches for end in accumulate(self.shares)]
        number = 0 if not position else next((k for k, end in enumerate(ends) if position < end), len(ends) - 1)
        begun = ends[number - 1] if number else 0.0
        return number, number > 1 and position < begun + FEW * (ends[number] - begun)

    def drawn(self, number: int, few: bool, common: dict[str, str], draw: torch.Generator) -> Architecture:
        """An architecture of a phase.

        Args:
            number: of the phase.
            few: whether only the two largest options of what the phase frees are drawn.
            common: options that all networks of the batch share.
            draw: source of the random numbers.
        """
        assert isinstance(self.space, Nested)
        largest, free = dict(self.space.largest.choices), dict(self.sample(draw).choices)
        chosen = dict[str, str]()
        for decision in self.space.decisions:
            freed = FREED.index(kind_of(decision))
            chosen[decision.name] = largest.get(decision.name, decision.options[-1])
            if freed < number or (freed == number and not few):
                chosen[decision.name] = free.get(decision.name, chosen[decision.name])
            elif freed == number:
                place = decision.options.index(chosen[decision.name])
                near = decision.options[max(0, place - 1) : place + 1] if place else decision.options[:2]
                chosen[decision.name] = near[int(torch.randint(len(near), (), generator=draw))]
        return self.space.complete(chosen | common, draw)

    def weights_backward(self, batch: Batch) -> Tensor:
        """Add the gradients of the networks of a batch: the full one, or drawn ones beside what the teacher says."""
        assert isinstance(self.space, Nested)
        (number, few), draw = self.phase(self.position), self.generator("weights")
        free = dict(self.sample(draw).choices)
        common = {d.name: free[d.name] for d in self.space.decisions if kind_of(d) == "resolution"}
        full = self.space.complete(dict(self.space.largest.choices) | common, draw)
        if not number:
            return self._backward(batch, full, None)
        if not self.phase(self.position - 1)[0]:
            self.teacher.load_state_dict(self.supernet.state_dict())
        taught = self._taught(batch, full) if self.distillation else None
        count = self.networks[number - 1]
        drawn = [self.drawn(number, few, common, draw) for _ in range(count)]
        return torch.stack([self._backward(batch, architecture, taught) for architecture in drawn]).mean()

    @torch.no_grad()
    def _taught(self, batch: Batch, full: Architecture) -> Tensor:
        with undropped(self.teacher):
            taught: Tensor = self.teacher(batch[0], self.space.gates(full).to(self.device))
        return taught

    def _backward(self, batch: Batch, architecture: Architecture, taught: Tensor | None) -> Tensor:
        output = self.supernet(batch[0], self.space.gates(architecture).to(self.device))
        loss = self.task.training_loss(output, batch)
        if taught is not None:
            loss = loss + self.distillation * self.task.imitation_loss(output, taught)
        self.check_finite("train/loss", loss)
        self.manual_backward(loss / self.accumulate)
        return loss.detach()


def frozen_copy(network: nn.Module) -> nn.Module:
    """A copy whose parameters are buffers of the same names, so that they are saved and belong to no optimiser.

    >>> made = frozen_copy(nn.Linear(2, 1))
    >>> list(made.parameters()), sorted(made.state_dict())
    ([], ['bias', 'weight'])
    """
    made = copy.deepcopy(network)
    for module in made.modules():
        for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())
    return made


def kind_of(decision: Decision) -> str:
    """What a decision is about: "resolution", "kernel", "depth", or else "width"; by the last part of its name.

    >>> [kind_of(Decision(name, ("1", "2"))) for name in ("stage_2.depth", "block_1.kernel", "layer_01.heads")]
    ['depth', 'kernel', 'width']
    """
    said = decision.name.rpartition(".")[2]
    return said if said in FREED else "width"
