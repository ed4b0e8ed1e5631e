r"""ProxylessNAS: one path at a time (Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332).

Every choice has logits :math:`\alpha`, :math:`p = \mathrm{softmax}(\alpha)`, and binary gates :math:`g`, one-hot and
drawn from :math:`p`. Weights are trained one drawn path a batch. Every few batches the logits take a step on other
data, in one of three ways:

* "full": all options run, one is let through, and

  .. math:: \frac{\partial L}{\partial \alpha_i} =
            \sum_j \frac{\partial L}{\partial g_j} \, p_j (\delta_{ij} - p_i);

* "two_path": the same among two options drawn from :math:`p` without replacement, :math:`p` being the softmax of their
  two logits; after the step both are shifted so that the probabilities of all others stay what they were;
* "reinforce": paths are drawn and rewarded with :math:`\mathrm{ACC} \cdot (\mathrm{LAT}/\mathrm{ref})^{-0.1}`.

A choice whose drawn option is zero takes no step. The expected latency enters the loss by a penalty: "mul#log" or
"add#linear" in the paper, any here. The answer is the most probable option of each choice.

Differs from the paper: inactive options are part of the graph and their gate is 0, where the released code detaches
them: the same gradients for more computing. Where the drawn option is zero, the released code leaves out the step of
the choice; here the optimiser sees the gradient 0 and the logits are put back, so that Adam counts the step and its
second moment decays. The next step of the choice is longer: by 41 % after one such step at the very beginning, by 8 %
in the long run where one step in seven is left out. The networks REINFORCE draws at a step are rewarded on one batch.
The learning rate falls once an epoch.
"""

from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Unpack

import torch
from annotated_types import Interval
from torch import Tensor
from torch.optim import SGD, Adam

from lightning_nas.errors import ConfigError
from lightning_nas.functional.reinforce import reinforce_loss
from lightning_nas.functional.relaxation import keep_total, straight_through
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import DifferentiableSearch
from lightning_nas.strategies.options import SoftmaxOptions
from lightning_nas.strategies.penalties import Costs, MnasNetProduct, MulLog
from lightning_nas.tasks.base import Batch, Task

NO_CONNECTION = ("zero", "none")


class ProxylessNAS(DifferentiableSearch):
    r"""Latency-aware search with binary gates that trains one path at a time (ProxylessNAS).

    .. math:: \frac{\partial L}{\partial \alpha_i} =
              \sum_j \frac{\partial L}{\partial g_j} \, p_j (\delta_{ij} - p_i), \qquad p = \mathrm{softmax}(\alpha)

    with logits :math:`\alpha` (choices, options) and binary gates :math:`g`, one-hot and drawn from :math:`p`. Weights
    are trained one drawn path a batch; every few batches the logits take a step on held-out data.

    Source: Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332, sections 3.2 and 3.3. Deviations: options whose gate is 0 are
    part of the graph, which gives the gradients of the released code; a choice that takes no step has its second moment
    in Adam decay, so that its next step is longer; the learning rate falls once an epoch.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation. None with a penalty measures the operations on this machine, which takes
            seconds and differs a little every time.
        penalty: how the expected cost enters the architecture loss; None to ignore costs. With "reinforce" it is the
            reward: :class:`~lightning_nas.strategies.penalties.MnasNetProduct`, or None for accuracy alone.
        update: "full" (all options run), "two_path" (two of them) or "reinforce" (rewards of drawn paths).
        samples: number of paths that a "reinforce" step draws.
        baseline_rate: how far "reinforce" moves its baseline towards the mean reward at every step.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.

    Raises:
        ConfigError: "reinforce" with a penalty that is not a reward; "two_path" with ``beta_decay``.
        LatencyTableError: the penalty is not defined for the costs of the table.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = ProxylessNAS(ToySpace(), penalty=None, arch_every=1, arch_warmup_epochs=0)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 4, 'architecture': 4}, 'toy')
    """

    drawn_a_step: int | None = 1
    defaults: ClassVar[SoftmaxOptions] = {
        "penalty": MulLog(scale=1000.0),
        "weights_optimizer": partial(SGD, lr=0.2, momentum=0.9, nesterov=True, weight_decay=4e-5),
        "weights_clip": None,
        "arch_optimizer": partial(Adam, lr=0.1, betas=(0.0, 0.999), weight_decay=0.0),
        "arch_every": 2,
        "arch_warmup_epochs": 10,
    }

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        update: Literal["full", "two_path", "reinforce"] = "full",
        samples: Count = 10,
        baseline_rate: Annotated[float, Interval(gt=0, le=1)] = 0.99,
        **options: Unpack[SoftmaxOptions],
    ) -> None:
        options = ProxylessNAS.defaults | options
        penalty = options["penalty"]
        if update == "reinforce" and not isinstance(penalty, MnasNetProduct | None):
            raise ConfigError("strategy.update=reinforce needs a reward: strategy/penalty=proxyless_reward, or null")
        if update == "two_path" and options.get("beta_decay"):
            raise ConfigError(
                "strategy.beta_decay needs strategy.update=full or reinforce: two_path moves two logits of each choice"
            )
        super().__init__(space, task, table, **options)
        self.update, self.samples, self.baseline_rate = update, samples, baseline_rate
        self.baseline: float | None = None
        self._traded = None
        if self.table is not None and isinstance(penalty, MnasNetProduct):
            self._traded = partial(penalty.reward, costs=Costs.of(space, self.table))
        self._stepping: dict[str, tuple[Tensor, Tensor]] = {}

    # -- weights ------------------------------------------------------------------------------------------------

    def gates(self, generator: torch.Generator) -> Gates:
        """One path, drawn from the softmax of the logits."""
        drawn = {group: _draw(p, 1, generator)[:, 0].tolist() for group, p in self.probabilities().items()}
        return Gates.one_hot(drawn, self.space.gate_shapes, self.device)

    # -- architecture -------------------------------------------------------------------------------------------

    def arch_loss(self, batch: Batch) -> Tensor:
        if self.update == "reinforce":
            return self._reinforce_loss(batch)
        gates, expected = self.binary_gates(self.generator("arch"))
        return self.penalised(self.held_out_loss(batch, gates), expected)

    def binary_gates(self, generator: torch.Generator) -> tuple[Gates, Gates]:
        """Gates that let one option of each choice through, and gates for the expected cost.

        Both are differentiable in the logits. All options run, or two of each choice.
        """
        values, active, expected = {}, {}, {}
        for group, theta in self.theta.items():
            paths = self._paths(theta, generator)
            among = theta.gather(1, paths).softmax(-1)
            chosen = _draw(among, 1, generator)
            off = torch.tensor([option in NO_CONNECTION for option in self.space.gate_options[group]]).to(theta.device)
            stays = off[paths.gather(1, chosen)]
            among = torch.where(stays, among.detach(), among)
            hard = torch.zeros_like(among).scatter(1, chosen, 1.0)
            nothing = torch.zeros_like(theta)
            values[group] = nothing.scatter(1, paths, straight_through(hard, among))
            expected[group] = nothing.scatter(1, paths, among)
            active[group] = tuple(map(tuple, paths.tolist()))
            self._stepping[group] = paths, stays
        return Gates(values, active), Gates(expected, active)

    def _paths(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """(choices, paths): indices of the options that take part in a step."""
        choices, options = theta.shape
        if self.update == "two_path":
            return _draw(theta.softmax(-1), min(2, options), generator)
        return torch.arange(options, device=theta.device).expand(choices, options)

    def _arch_step(self, batch: Batch, weights_batch: Batch | None) -> None:
        before = {group: theta.detach().clone() for group, theta in self.theta.items()}
        super()._arch_step(batch, weights_batch)
        with torch.no_grad():
            for group, (paths, stays) in self._stepping.items():
                old, new = before[group].gather(1, paths), self.theta[group].gather(1, paths)
                if self.update == "two_path":
                    new = keep_total(new, old)
                self.theta[group].copy_(before[group].scatter(1, paths, torch.where(stays, old, new)))

    # -- REINFORCE ----------------------------------------------------------------------------------------------

    def _reinforce_loss(self, batch: Batch) -> Tensor:
        generator, logs = self.generator("arch"), {g: theta.log_softmax(-1) for g, theta in self.theta.items()}
        drawn = [self.gates(generator) for _ in range(self.samples)]
        log_probabilities = torch.stack(
            [torch.stack([(gates.values[g] * logs[g]).sum() for g in logs]).sum() for gates in drawn]
        )
        rewards = torch.tensor([self.reward(batch, gates) for gates in drawn], device=self.device)
        rewards = self.trainer.strategy.reduce(rewards, reduce_op="mean")  # each process has its own data
        mean = rewards.mean().item()
        self.baseline = mean if self.baseline is None else self.baseline + self.baseline_rate * (mean - self.baseline)
        self.log_batch("arch/reward", mean)
        return self.decayed(reinforce_loss(log_probabilities, rewards, self.baseline))

    @torch.no_grad()
    def reward(self, batch: Batch, gates: Gates) -> float:
        """Reward of a path on a batch: that of the task, traded off against the cost if there is a penalty."""
        score = self.path_reward(batch, gates)
        traded = self._traded(score, self.cost(gates).item()) if self._traded else score
        return traded - float(self.excess(gates)) if self.target is not None else traded

    def state(self) -> dict[str, Any]:
        return {**super().state(), "baseline": self.baseline}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.baseline = state["baseline"]


def _draw(probabilities: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(choices, count) different options of each choice."""
    return torch.multinomial(probabilities.detach().cpu(), count, generator=generator).to(probabilities.device)
