"""What searches have in common in which a recurrent controller proposes and learns from what came of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Interval
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_nas.functional.reinforce import moving_baselines
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.controllers.controller import Controller, Drawn
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.tasks.base import Task
from lightning_nas.training.seeding import generator
from lightning_nas.trials.book import Proposal

ControllerFactory = Callable[[SearchSpace, torch.Generator], Controller]


class PolicySearch(TrialSearch):
    """A controller that is updated by minibatches of children.

    Rewards are compared with a baseline, the exponentially weighted mean of all rewards of earlier minibatches; that of
    the first is its own mean. Logged after each update: the mean entropy of a decision there was, the mean reward,
    the baseline, and the staleness, how many updates there were between a proposal and the update that used it, on
    average.

    Args:
        space: any.
        task: what the networks are for.
        table: what each operation costs, to be shown.
        controller: makes the controller of a space from a generator for its weights.
        optimizer: makes the controller's optimiser from its parameters.
        children: of a minibatch, m.
        baseline_decay: how much of itself the baseline keeps at every child.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Attributes:
        version: updates so far.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        controller: ControllerFactory,
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
        children: PositiveInt,
        baseline_decay: Annotated[float, Interval(ge=0, lt=1)],
        **options: Any,
    ) -> None:
        super().__init__(space, task, table, **options)
        self.controller, self._optimizer = controller(space, generator(self.seed, "controller")), optimizer
        self.children_a_step, self.baseline_decay = children, baseline_decay
        self.version = 0
        self._moved, self._counted = 0.0, 0  # of the baseline: the weighted sum, and how many rewards are in it

    def configure_optimizers(self) -> Optimizer:
        return self._optimizer(list(self.controller.parameters()))

    # -- what a search can do -----------------------------------------------------------------------------------

    @abstractmethod
    def propose(self, number: int) -> Proposal | None:
        """Trial ``number``, drawn from a controller."""

    @torch.no_grad()
    def drawn(self, controller: Controller, number: int) -> Drawn:
        """One architecture for trial ``number``."""
        return controller.sample(1, self.rng("propose", number))

    def minibatch(self, places: Sequence[int], versions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The rewards of a minibatch and what they are compared with, each (m,) or a scalar, in float32.

        Args:
            places: of the children in the history.
            versions: updates there were when each was proposed.
        """
        rewards = torch.tensor([self.history[place][1] for place in places], dtype=torch.float64)
        baseline = self.baseline if self._counted else rewards.mean().item()
        self._moved = moving_baselines(rewards, self._moved, self.baseline_decay)[-1].item()
        self._counted += len(places)
        self.figures = {
            "controller/reward": rewards.mean().item(),
            "controller/baseline": baseline,
            "controller/staleness": self.version - sum(versions) / len(versions),
        }
        return rewards.float(), torch.tensor(baseline)

    @property
    def baseline(self) -> float:
        """What the next minibatch is compared with, if there was one before."""
        return self._moved / (1 - self.baseline_decay**self._counted)

    def replayed(self, controller: Controller, places: Sequence[int]) -> Drawn:
        """Children of the history as ``controller`` would have drawn them."""
        drawn = controller.replay([self.history[place][0].architecture for place in places])
        self.figures["controller/entropy"] = drawn.mean_entropy.item()
        return drawn

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move the controller.

        Raises:
            NumericalError: it is not finite any more.
        """
        for parameter, gradient in zip(self.controller.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.step()
        self.check_parameters()

    def state(self) -> dict[str, Any]:
        baseline = {"moved": self._moved, "counted": self._counted}
        return {**super().state(), "version": self.version, "baseline": baseline}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.version = state["version"]
        self._moved, self._counted = state["baseline"]["moved"], state["baseline"]["counted"]


def gradients(loss: Tensor, controller: Controller) -> tuple[Tensor, ...]:
    """Of each parameter of a controller, zeros where the loss does not depend on it."""
    return torch.autograd.grad(loss, list(controller.parameters()), allow_unused=True, materialize_grads=True)
