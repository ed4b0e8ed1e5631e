"""Single-path one-shot (SPOS; Guo et al., ECCV 2020, arXiv:1904.00420).

Every batch trains one architecture, drawn uniformly. With ``sampling="fair"`` (FairNAS, arXiv:1907.01845) a batch
trains as many as a choice has options, so that each option of each choice is trained once, and one step is taken on the
sum of their gradients. At the end an evolution looks for the best architecture under a hard limit of the cost, by
inherited weights with recalibrated batch norm; no architecture is scored twice.

Operations that a step did not use have no gradient, and the optimiser leaves them alone: neither weight decay nor
momentum moves them.

Choices with different numbers of options: a batch trains as many architectures as the largest has options, and a
choice of fewer runs through permutations of its options again and again, cut off at that number: in one batch the
options of a choice differ by one training at most.

With ``sampling="sandwich"`` (Universally Slimmable Networks, arXiv:1903.05134) a batch trains the largest architecture
on the labels, and the smallest and two drawn ones on the largest's outputs, on the sum of the four gradients. With
``sampling="none"`` nothing is trained: the evolution scores with the weights that the supernet began with, which is for
pretrained ones. Both need networks that are parts of the largest, as those of a person's own module and of elastic
spaces are.

Differs from the paper: the score is the task's alone; of equal scores the cheaper architecture is better (the authors':
top-1, then top-5 error). The authors draw random candidates without end where the limit leaves few; here genes of the
cheapest architecture help, and the evolution ends early where nothing new is found. The paper's channel search is a
matter of the space.

Recalibrated statistics are reused where a candidate comes again, which is exact. Of different candidates of a chain
those of a common beginning are equal too, but to use that, the activations of all calibration batches at every
block of the chain must be kept: at the paper's size 200 batches of 128 images, terabytes.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Annotated, ClassVar, Literal, Protocol, Unpack, runtime_checkable

import torch
from annotated_types import Interval
from pydantic import PositiveFloat
from torch import Tensor
from torch.optim import SGD

from lightning_nas.architecture import Architecture
from lightning_nas.bars import tracked
from lightning_nas.errors import ConfigError
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.strategies.evolution import Evolution, cheapest, ranked
from lightning_nas.strategies.one_path.uniform import UniformPaths
from lightning_nas.strategies.options import SearchOptions
from lightning_nas.strategies.target import exactly_cheapest
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.seeding import generator


@runtime_checkable
class Nested(Protocol):
    """A space whose networks are parts of its largest one."""

    smallest: Architecture
    largest: Architecture


def check_nested(space: WeightSharingSpace, asked: str, legal: str = "") -> None:
    """Refuse a space whose networks are not parts of a largest one.

    Raises:
        ConfigError: says what asked for it, and which spaces are such.
    """
    if not space.nests:
        raise ConfigError(
            f"{asked}: the networks of {space.name} are not parts of a largest one; legal: {legal}an elastic space "
            "(search_space=attentive_nas_small, ofa_mbv3_small), or a network of your own: search_space=from_model, "
            "ln.FromModel"
        )


class SPOS(UniformPaths):
    r"""Single-path one-shot search: uniformly drawn paths, then evolution (SPOS).

    .. math:: w^* = \arg\min_w \mathbb{E}_{a \sim U}\big[L_{train}(a, w)\big], \qquad
              a^* = \arg\max_{a:\, \mathrm{cost}(a) \le \mathrm{limit}} \mathrm{ACC}_{val}(a, w^*)

    The evolution scores architectures with inherited weights and recalibrated batch norm, none twice.

    Source: Guo et al., ECCV 2020, arXiv:1904.00420, sections 3.1 to 3.4; fair sampling: FairNAS, arXiv:1907.01845;
    sandwich rule with in-place distillation: Yu and Huang, ICCV 2019, arXiv:1903.05134, sections 3.2 and 3.3.
    Deviations: of two architectures with equal scores the cheaper one is better; the channel search of the paper is a
    property of the space.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation; needed for a limit, and decides between equal scores.
        sampling: "uniform" trains one path a batch, "fair" as many as a choice has options, "sandwich" the largest, the
            smallest and two drawn ones, which learn the largest's outputs, "none" no path.
        redraw: draw again where the output does not depend on the input, as in cells of NAS-Bench-201 with "none".
        generations: of the evolution, the random first one included.
        population: architectures of a generation, 50 in the paper.
        parents: number of the best architectures that have children.
        mutation: probability of each decision of a parent to be drawn anew.
        limit: upper bound of the cost of every candidate, in the unit of the table; None for no bound.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.

    Raises:
        ConfigError: a limit without a table, or below the cheapest architecture; "sandwich" or "none" on a space whose
            networks are not parts of its largest.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = SPOS(ToySpace(), generations=2, population=3, parents=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 8}, 'toy')
    """

    defaults: ClassVar[SearchOptions] = {
        "weights_optimizer": partial(SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=4e-5)
    }

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        sampling: Literal["uniform", "fair", "sandwich", "none"] = "uniform",
        generations: Count = 10,
        population: Count = 20,
        parents: Count = 10,
        mutation: Annotated[float, Interval(ge=0, le=1)] = 0.1,
        limit: PositiveFloat | None = None,
        redraw: bool = False,
        **options: Unpack[SearchOptions],
    ) -> None:
        if sampling in ("sandwich", "none"):
            check_nested(space, f"strategy.sampling={sampling}", "uniform, fair, or ")
        super().__init__(space, task, table, redraw=redraw, **SPOS.defaults | options)
        self.sampling = sampling
        self.drawn_a_step = 1 if sampling == "uniform" else None
        self.between = 2
        self.generations, self.population, self.parents, self.mutation = generations, population, parents, mutation
        self.limit = limit
        self._floor = None if limit is None else self._within(limit)

    def _within(self, limit: float) -> Architecture:
        """An architecture within the limit."""
        if self.table is None:
            raise ConfigError(
                f"strategy.limit={limit:g} needs costs; choose latency_table=measured, macs, params or file"
            )
        found = cheapest(self.space, self._cost, generator(self.seed, "cheapest"))
        if self._cost(found) <= limit:
            return found
        exact = exactly_cheapest(self.space, self.table)
        if exact is not None and self._cost(exact) <= limit:
            return exact
        said, cost = ("", self._cost(exact)) if exact is not None else (" that was found", self._cost(found))
        raise ConfigError(
            f"strategy.limit={limit:g} {self.table.unit}: the cheapest architecture of {self.space.name}{said} costs "
            f"{cost:.6g} {self.table.unit}; legal: at least that, or null"
        )

    def _cost(self, architecture: Architecture) -> float:
        return 0.0 if self.table is None else self.space.cost(architecture, self.table)

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> None:
        if self.sampling != "none":
            super().training_step(batch, batch_idx)

    def monitors(self) -> set[str]:
        return super().monitors() if self.sampling != "none" else set()

    def check_steps(self) -> None:
        if self.sampling != "none" or not self.position:
            super().check_steps()

    @property
    def updates(self) -> float:
        """As of every search; infinite where the weights are not trained."""
        return super().updates if self.sampling != "none" else math.inf

    def weights_backward(self, batch: Batch) -> Tensor:
        if self.sampling == "uniform":
            return super().weights_backward(batch)
        if self.sampling == "sandwich":
            return self._sandwich(batch)
        losses = []
        for path in fair_paths(self.space, self.generator("weights")):
            loss = self.task_loss(batch, self.space.gates(path).to(self.device))
            self.check_finite("train/loss", loss)
            self.manual_backward(loss / self.accumulate)
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    def _sandwich(self, batch: Batch) -> Tensor:
        """Add the gradients of the largest architecture on the labels, and of the others on its outputs."""
        assert isinstance(self.space, Nested)
        draw = self.generator("weights")
        drawn = [self.taken(batch, draw) for _ in range(self.between)]
        taught, losses = None, []
        for path in (self.space.largest, self.space.smallest, *drawn):
            with self.running(teaches=taught is None):
                output = self.supernet(batch[0], self.space.gates(path).to(self.device))
            if taught is None:
                loss, taught = self.task.training_loss(output, batch), output.detach()
            else:
                loss = self.task.imitation_loss(output, taught)
            self.check_finite("train/loss", loss)
            self.manual_backward(loss / self.accumulate)
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    def taken(self, batch: Batch, draw: torch.Generator) -> Architecture:
        """An architecture of a sandwich beside the largest and the smallest, drawn uniformly."""
        del batch
        return self.kept(self.sample(draw), draw)

    def running(self, *, teaches: bool) -> AbstractContextManager[None]:
        """Where an architecture of a sandwich runs, the first of which teaches the others; nothing is changed here."""
        del teaches
        return nullcontext()

    @property
    def answer_rule(self) -> str:
        within = "" if self.limit is None or self.table is None else f" within {self.limit:g} {self.table.unit}"
        weights = "the weights it began with" if self.sampling == "none" else "the shared weights at the end"
        return f"the best score{within} of an evolution with {weights}; among equal scores the cheapest"

    def choose(self) -> Architecture:
        """The best architecture of an evolution, which starts anew at every call."""
        evolution = Evolution(
            self.space,
            self.score,
            self.generator("answer"),
            generations=self.generations,
            population=self.population,
            parents=self.parents,
            mutation=self.mutation,
            cost=self._cost if self.table else None,
            limit=self.limit,
            floor=self._floor,
            within=None if self.target is None else self.target.nearest,
        )
        total, hidden = self.generations * self.population, self.global_rank > 0
        self.evolved = list(tracked(evolution.run(), "evolution", total, hidden=hidden))
        self.scored = {candidate.architecture: candidate.score for candidate in self.evolved}
        return ranked(self.evolved)[0].architecture


def fair_paths(space: SearchSpace, generator: torch.Generator) -> list[Architecture]:
    """Draw as many architectures as the largest decision has options, so that each option occurs equally often.

    A decision with fewer options runs through permutations of them. An option that is not legal after the decisions
    before it is replaced by a random one.
    """
    count = max(len(decision.options) for decision in space.decisions)
    columns: dict[str, list[str]] = {}
    for decision in space.decisions:
        size = len(decision.options)
        orders = [torch.randperm(size, generator=generator).tolist() for _ in range(-(-count // size))]
        columns[decision.name] = [decision.options[i] for order in orders for i in order][:count]
    return [space.complete({name: column[k] for name, column in columns.items()}, generator) for k in range(count)]
