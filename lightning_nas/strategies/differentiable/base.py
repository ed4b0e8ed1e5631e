"""Base classes of strategies with one logit for each option."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal, Unpack

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Adam

from lightning_nas.architecture import Architecture
from lightning_nas.data.reader import Alternate
from lightning_nas.errors import ConfigError
from lightning_nas.functional.penalties import next_multiplier
from lightning_nas.functional.relaxation import entropies, linear_schedule, ties
from lightning_nas.latency.cost import ExpectedCost
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import Gated, Supernet, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.differentiable.perturbation import Tuning, select_by_perturbation, worth
from lightning_nas.strategies.loop import ArchSteps
from lightning_nas.strategies.options import AnswerBy, OptimizerFactory, SchedulerFactory, SearchOptions
from lightning_nas.strategies.penalties import Costs, Penalty
from lightning_nas.strategies.target import Limit
from lightning_nas.strategies.usual import measured_here
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.seeding import KeyPart, generator, seed_everything

Estimator = Literal["straight_through", "reinmax"]
INTEGRAL, PROPORTIONAL = 0.1, 1.0  # gains of the multipliers of a target


class DifferentiableSearch(SearchModule):
    r"""Base class of searches whose architecture parameters are logits ``theta[group]`` (choices, options).

    A method defines how logits become :meth:`gates` and the loss they are trained with. A method with its own
    ``arch_loss`` ends it with ``return self.penalised(loss)``.

    A target T adds :math:`\lambda (\mathbb{E}[c] / T - 1)` to that loss, with the expected cost under the distribution.
    After every architecture step a PI controller moves the multiplier :math:`\lambda \ge 0` by the cost of the derived
    architecture, as LightNAS does (DAC 2022), see :func:`~lightning_nas.functional.penalties.next_multiplier`. The
    answer is the most probable architecture that meets the target.

    ``beta_decay`` adds :math:`\lambda(e) \, \mathrm{mean} \log \sum_o \exp \theta_o` to that loss, the mean over all
    choices, with :math:`\lambda` linear in the epoch from 0 to ``beta_decay``: the regulariser of :math:`\beta`-DARTS
    (Ye et al., CVPR 2022, arXiv:2203.01665, section 3.2). Its gradient is the softmax of the logits, so that the larger
    ones are held back.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging. None with a penalty measures the operations on this machine, which
            takes seconds and differs a little every time.
        theta_std: standard deviation of the initial logits; 0 for equal logits.
        penalty: how the expected cost enters the architecture loss; None to ignore costs.
        answer_by: "probabilities" answers by the rule of the space, "perturbation" with the options whose removal from
            the supernet hurts most, see :mod:`~lightning_nas.strategies.differentiable.perturbation`.
        perturbation_steps: weights steps of a copy of the supernet after each decision by "perturbation", at a tenth of
            the initial rate.
        beta_decay: weight that the regulariser of beta-DARTS reaches at the end of the search, 25 in its paper for 50
            epochs and 50 for 100; 0 for none. For methods whose gates are a softmax of the logits.
        arch_optimizer: makes the optimiser of the architecture parameters from a list of parameter groups.
        arch_scheduler: makes its learning-rate schedule; one step an epoch. None: a constant rate.
        arch_clip: largest gradient norm of the architecture step; None for no clipping.
        alternate: "batch" takes both steps on every batch; "epoch" goes through all weights batches, then through all
            architecture batches.
        arch_every: take the architecture step on every n-th batch only (with ``alternate="batch"``).
        arch_warmup_epochs: epochs at the beginning without architecture steps.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.

    Raises:
        ConfigError: ``arch_every`` with ``alternate="epoch"``; ``beta_decay`` for gates that are no softmax;
            "perturbation" with a target, or for a method whose answer has another rule; ``perturbation_steps`` without
            "perturbation".
        LatencyTableError: the penalty is not defined for the costs of the table.
    """

    cost: ExpectedCost
    drawn_a_step: int | None = None
    softmax: ClassVar[bool] = True  #: whether gates are a softmax of the logits
    perturbable: ClassVar[bool] = True  #: whether "perturbation" may find the answer

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        theta_std: NonNegativeFloat = 1e-3,
        penalty: Penalty | None = None,
        answer_by: AnswerBy = "probabilities",
        perturbation_steps: NonNegativeInt = 0,
        beta_decay: NonNegativeFloat = 0.0,
        arch_optimizer: OptimizerFactory = partial(Adam, lr=0.05, betas=(0.5, 0.999), weight_decay=1e-3),
        arch_scheduler: SchedulerFactory | None = None,
        arch_clip: PositiveFloat | None = None,
        alternate: Alternate = "batch",
        arch_every: Count = 1,
        arch_warmup_epochs: NonNegativeInt = 2,
        **options: Unpack[SearchOptions],
    ) -> None:
        if beta_decay and not self.softmax:
            raise ConfigError(
                f"strategy.beta_decay={beta_decay:g} holds back the largest logits of a softmax, which "
                f"{type(self).__name__} has not; legal: 0"
            )
        if answer_by == "perturbation" and (options.get("target") is not None or not self.perturbable):
            why = "a target is kept by" if self.perturbable else f"{type(self).__name__} answers by a rule of"
            raise ConfigError(f"strategy.answer_by=perturbation: {why} the probabilities; legal: probabilities")
        if perturbation_steps and answer_by != "perturbation":
            raise ConfigError(f"strategy.perturbation_steps={perturbation_steps} needs strategy.answer_by=perturbation")
        if penalty and table is None:
            table = measured_here(space)
        arch = ArchSteps(arch_optimizer, arch_scheduler, arch_clip, alternate, arch_every, arch_warmup_epochs)
        super().__init__(space, task, table, arch=arch, **options)
        self.theta_std, self.beta_decay = theta_std, beta_decay
        self._by_perturbation, self.perturbation_steps = answer_by == "perturbation", perturbation_steps
        self.theta = small_noise(space.gate_shapes, theta_std, self.seed, "theta")
        self._penalised = None
        if penalty and table is not None:
            self._penalised, self.cost = penalty.bind(Costs.of(space, table)), ExpectedCost(space, table)
        self.bounded = nn.ModuleList(ExpectedCost(space, limit.table) for limit in self._limits)
        self.multipliers = [0.0] * len(self._limits)
        self.gaps: list[float] = []  # of the derived architecture after the last architecture step

    def arch_loss(self, batch: Batch) -> Tensor:
        return self.penalised(super().arch_loss(batch))

    def penalised(self, loss: Tensor, gates: Gates | None = None) -> Tensor:
        """``loss`` with what is added to it: penalty and target of the expected cost under ``gates``, beta decay.

        Args:
            loss: task loss, a scalar.
            gates: by default the :meth:`distribution`.
        """
        if self._penalised is not None or any(self.multipliers):
            gates = gates or Gates.soft(self.distribution())
            loss = loss if self._penalised is None else self._penalised(loss, self.cost(gates))
            loss = loss + self.excess(gates) if any(self.multipliers) else loss
        return self.decayed(loss)

    def decayed(self, loss: Tensor) -> Tensor:
        """``loss`` with the regulariser of beta-DARTS, where the logits learn; itself with ``beta_decay=0``."""
        weight = self.decay_weight
        if not weight or not any(theta.requires_grad for theta in self.theta.values()):
            return loss
        rows = [self.competing(group).logsumexp(-1) for group in self.space.gate_shapes]
        return loss + weight * torch.cat(rows).mean()

    @property
    def decay_weight(self) -> float:
        """Weight of the regulariser of beta-DARTS in this epoch."""
        return self.beta_decay * self.current_epoch / self.epochs if self.beta_decay else 0.0

    def excess(self, gates: Gates) -> Tensor:
        """Relative excess of the expected costs over the target, each times its multiplier, a scalar."""
        assert self.target is not None
        priced = zip(self.multipliers, self.bounded, self.target.limits, strict=True)
        return torch.stack([price * (cost(gates) / limit.value - 1) for price, cost, limit in priced]).sum()

    def _apply_arch(self, optimizer: LightningOptimizer) -> None:
        super()._apply_arch(optimizer)
        if self.target is None:
            return
        gaps = list(self.target.gaps(self.derive()))
        known = zip(self.multipliers, gaps, self.gaps or gaps, strict=True)
        self.multipliers = [next_multiplier(price, gap, old, INTEGRAL, PROPORTIONAL) for price, gap, old in known]
        self.gaps = gaps

    def arch_parameters(self) -> list[nn.Parameter]:
        return [self.theta[group] for group in self.space.gate_shapes]

    def initial_theta(self) -> dict[str, Tensor]:
        """The logits the search began with."""
        return dict(small_noise(self.space.gate_shapes, self.theta_std, self.seed, "theta"))

    def logits(self, group: str) -> Tensor:
        """The (choices, options) logits of a group that decide now."""
        theta: Tensor = self.theta[group]
        return theta

    def competing(self, group: str) -> Tensor:
        """The (choices, options) logits whose softmax are the probabilities; minus infinity for dropped options."""
        return self.logits(group)

    def untouched(self) -> dict[str, list[int]]:
        return {
            group: [i for i, row in enumerate(self.logits(group).detach().cpu()) if torch.equal(row, before[i])]
            for group, before in self.initial_theta().items()
        }

    def tied(self) -> dict[str, list[int]]:
        return ties(self.probabilities())

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

    # -- the answer by perturbation -----------------------------------------------------------------------------

    @property
    def answer_rule(self) -> str:
        if not self._by_perturbation:
            return super().answer_rule
        tuned = f", with {self.perturbation_steps} steps after each decision" if self.perturbation_steps else ""
        return f"the options whose removal from the supernet hurts most, choice by choice{tuned}"

    def choose(self) -> Architecture:
        return self.perturbed() if self._by_perturbation else super().choose()

    def mixture(self) -> dict[str, Tensor]:
        """``{group: (choices, options)}``: weights with which the supernet mixes all options; without gradient."""
        return self.probabilities()

    def supernet_copy(self) -> Supernet:
        """A copy of the supernet as it is without what only training needs."""
        return copy.deepcopy(self.supernet)

    def perturbed(self) -> Architecture:
        """The architecture that perturbation selects from the supernet as it is."""
        supernet = self.supernet_copy()
        tuned = self._tuning(supernet) if self.perturbation_steps else lambda _: None
        return select_by_perturbation(
            self.space,
            self.mixture(),
            lambda rows: worth(supernet, rows, self.task, self.scoring(), self.space.num_classes),
            generator(self.seed, "perturbation"),
            tuned,
        )

    def _tuning(self, supernet: Supernet) -> Tuning:
        for weight in supernet.parameters():
            weight.requires_grad_(True)
        training = self.trainings["weights"]
        optimizer = training.optimizer([{"params": list(supernet.parameters()), "name": "weights"}])
        for group in optimizer.param_groups:
            group["lr"] /= 10
        batches = self.data.search_loader("batch", lambda: 0).batches

        def batch(number: int) -> Batch:
            seed_everything(self.seed, "perturbation", number)  # of dropout
            x, y = batches[self.position + number]["weights"]
            return self.task.continued(x.to(self.device), None), y.to(self.device)

        return Tuning(supernet, optimizer, self.task.training_loss, batch, self.perturbation_steps, training.clip)

    def validated(self) -> nn.Module:
        """The supernet with every option weighted by its probability."""
        return Gated(self.supernet, Gates.soft(self.probabilities()))

    def monitors(self) -> set[str]:
        costs = {f"latency/expected_{self.table.unit}"} if self._penalised and self.table else set()
        steered = {f"{limit.name}/{what}" for limit in self._limits for what in ("lambda", "gap")}
        decay = {"arch/beta_decay"} if self.beta_decay else set()
        return (
            super().monitors() | {"arch/entropy"} | decay | costs | (steered if self.arch_warmup_epochs == 0 else set())
        )

    @property
    def _limits(self) -> tuple[Limit, ...]:
        return self.target.limits if self.target else ()

    def log_search(self) -> None:
        self.log_batch("arch/entropy", torch.cat([entropies(p) for p in self.probabilities().values()]).mean())
        if self._penalised and self.table:
            with torch.no_grad():
                expected = self.cost(Gates.soft(self.probabilities()))
            self.log_batch(f"latency/expected_{self.table.unit}", expected, prog_bar=True)
        if self.beta_decay:
            self.log_batch("arch/beta_decay", self.decay_weight)
        for limit, price, gap in zip(self._limits, self.multipliers, self.gaps, strict=False):
            self.log_batch(f"{limit.name}/lambda", price)
            self.log_batch(f"{limit.name}/gap", gap)

    def state(self) -> dict[str, Any]:
        own = {"multipliers": self.multipliers, "gaps": self.gaps} if self.target else {}
        return {**super().state(), **own}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        if self.target is not None:
            self.multipliers, self.gaps = list(state["multipliers"]), list(state["gaps"])


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

    def monitors(self) -> set[str]:
        return super().monitors() | {"arch/temperature"}

    def log_search(self) -> None:
        super().log_search()
        self.log_batch("arch/temperature", self.tau)


def check_estimator(estimator: Estimator, *temperatures: float) -> None:
    """Refuse temperatures that ReinMax is not made for.

    Raises:
        ConfigError: names them.
    """
    if estimator == "reinmax" and min(temperatures) < 1:
        said = " and ".join(f"{temperature:g}" for temperature in temperatures)
        raise ConfigError(
            f"strategy.estimator=reinmax needs temperatures from 1 on, got {said}; legal: strategy.temperature=1 "
            "strategy.last_temperature=1"
        )


def drawn_gates(values: Mapping[str, Tensor], estimator: Estimator) -> Gates:
    """Gates of one-hot rows: only the chosen options run, or all where ReinMax needs the gradients of their gates."""
    learns = any(rows.requires_grad for rows in values.values())
    return Gates.soft(values) if estimator == "reinmax" and learns else Gates.drawn(values)


def small_noise(shapes: Mapping[str, tuple[int, ...]], std: float, *key: KeyPart) -> nn.ParameterDict:
    """Parameters of N(0, std^2), drawn in order from the generator of ``key``."""
    draw = generator(*key)
    return nn.ParameterDict({name: torch.randn(shape, generator=draw) * std for name, shape in shapes.items()})
