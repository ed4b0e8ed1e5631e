"""Base class of searches whose recurrent controller is trained on trial rewards."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Unpack

import torch
from annotated_types import Interval
from torch import Tensor
from torch.optim import Adam, Optimizer

from lightning_nas.functional.reinforce import moving_baselines
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.controllers.controller import Controller, Drawn
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.options import ControllerFactory, ControllerOptimizer, TrialOptions
from lightning_nas.tasks.base import Task
from lightning_nas.training.seeding import generator
from lightning_nas.trials.book import Proposal


class PolicySearch(TrialSearch):
    """Base class of searches whose recurrent controller is trained on minibatches of trial rewards.

    The baseline of the rewards is an exponential moving average of the rewards of earlier minibatches; for the first
    minibatch it is the mean of that minibatch. After each update are logged: the mean entropy of a decision, the mean
    reward, the baseline, and the staleness, which is the mean number of updates between a proposal and the update that
    used it.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        controller: makes the controller of a space from a generator of its weights.
        optimizer: makes the optimiser of the controller from its parameters.
        children: trials of a minibatch, m.
        baseline_decay: decay of the moving average of the rewards.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Attributes:
        version: number of updates so far.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        controller: ControllerFactory = partial(Controller, hidden=16, tanh_constant=1.5),
        optimizer: ControllerOptimizer = partial(Adam, lr=0.02),
        children: Count = 4,
        baseline_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.95,
        **options: Unpack[TrialOptions],
    ) -> None:
        super().__init__(space, task, table, **options)
        self.make_controller = controller
        self.controller, self._optimizer = controller(space, generator(self.seed, "controller")), optimizer
        self.children_a_step, self.baseline_decay = children, baseline_decay
        self.version = 0
        self._moved, self._counted = 0.0, 0  # of the baseline: weighted sum and number of its rewards

    def configure_optimizers(self) -> Optimizer:
        return self._optimizer(list(self.controller.parameters()))

    # -- proposals and updates ----------------------------------------------------------------------------------

    @property
    def blind(self) -> int:
        """The first minibatch, after which the controller is updated."""
        return self.children_a_step

    @abstractmethod
    def propose(self, number: int) -> Proposal | None:
        """Trial ``number``, drawn from the controller."""

    @torch.no_grad()
    def drawn(self, controller: Controller, number: int) -> Drawn:
        """One architecture for trial ``number``."""
        return controller.sample(1, self.rng("propose", number))

    def minibatch(self, places: Sequence[int], versions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Rewards (m,) of a minibatch and their baseline, a scalar, in float32.

        Args:
            places: indices of the trials in the history.
            versions: number of updates when each was proposed.
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
        """The baseline of the next minibatch, once there was one."""
        return self._moved / (1 - self.baseline_decay**self._counted)

    def replayed(self, controller: Controller, places: Sequence[int]) -> Drawn:
        """Trials of the history with the probabilities that ``controller`` gives them."""
        drawn = controller.replay([self.history[place][0].architecture for place in places])
        self.figures["controller/entropy"] = drawn.mean_entropy.item()
        return drawn

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Update the controller.

        Raises:
            NumericalError: a parameter is not finite any more.
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
    """Gradient of each parameter of a controller, zeros where the loss does not depend on it."""
    return torch.autograd.grad(loss, list(controller.parameters()), allow_unused=True, materialize_grads=True)
