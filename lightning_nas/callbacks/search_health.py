"""Signs of a collapse of a gradient-based search, recorded during the search, and an early stop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import pytorch_lightning as pl
import torch
from annotated_types import Interval
from pydantic import NonNegativeInt
from torch import Tensor

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.base import RecordingCallback, is_due
from lightning_nas.errors import ConfigError
from lightning_nas.functional.curvature import (
    difference_products,
    dominant_eigenvalue,
    exact_products,
    has_risen,
    local_averages,
)
from lightning_nas.functional.relaxation import entropies
from lightning_nas.ops.mixed import is_skip
from lightning_nas.ranges import Count
from lightning_nas.strategies.base import SearchModule
from lightning_nas.tasks.base import Batch
from lightning_nas.training.seeding import generator
from lightning_nas.training.untouched import untouched

_LOGGED = ("skip_share", "entropy", "discretisation_gap", "eigenvalue")


class SearchHealth(RecordingCallback):
    r"""Known failures of gradient-based searches as curves, in ``health.csv`` and under the log keys ``health/...``.

    - ``skip_share``: share of the choices with an option named ``skip...`` at which that option has the largest
      probability (Chu et al., arXiv:1911.12126); ``skip_probability``: mean probability of that option. Empty for a
      space without such options.
    - ``entropy``: mean entropy of the choices, in nats; ``edges.csv`` has that of each choice.
    - ``discretisation_gap``: ``supernet_score``, of the supernet as it is validated, minus ``derived_score``, of the
      derived network with inherited weights, on the same batches.
    - ``eigenvalue``: eigenvalue of largest magnitude of the Hessian of the architecture loss with respect to the
      architecture parameters, on the first batch of the validation part (Zela et al., R-DARTS, ICLR 2020,
      arXiv:1909.09656), by power iteration. Hessian-vector products come from double backward, or from finite
      differences (which also see the kinks of ReLUs) where an operation has no second derivative. Empty if the loss has
      no gradient with respect to the architecture parameters.

    With ``early_stop`` the search ends as R-DARTS does (DARTS-ES): when the mean magnitude of the last ``window``
    eigenvalues exceeds ``ratio`` times that of the window that ended ``window - 1`` records earlier. The answer is then
    the derived architecture at the end of that older window, :attr:`healthy`.

    Args:
        every_n_epochs: epochs between two records; the last epoch is always recorded.
        iterations: upper bound of the steps of the power iteration; 0 skips the eigenvalue, which takes seconds.
        early_stop: whether to end the search when the eigenvalue has risen; needs ``iterations`` > 0.
        window: number of records that are averaged.
        ratio: ratio of the two averages above which the search ends.
        first_epoch: first epoch in which the search may end.

    Attributes:
        healthy: the architecture kept by an early stop; None before an early stop.

    Raises:
        ConfigError: an early stop without eigenvalues.

    Example:
        >>> SearchHealth(iterations=20, early_stop=True).window
        5
    """

    files: ClassVar = {
        "health.csv": (
            *("epoch", "step", "skip_share", "skip_probability", "entropy"),
            *("supernet_score", "derived_score", "discretisation_gap", "eigenvalue"),
        ),
        "edges.csv": ("epoch", "group", "choice", "entropy", "option", "probability"),
    }

    def __init__(
        self,
        every_n_epochs: Count = 3,
        *,
        iterations: NonNegativeInt = 0,
        early_stop: bool = False,
        window: Annotated[int, Interval(ge=2)] = 5,
        ratio: Annotated[float, Interval(gt=1)] = 1.3,
        first_epoch: NonNegativeInt = 10,
    ) -> None:
        if early_stop and not iterations:
            raise ConfigError(
                "search_health: early_stop=true needs eigenvalues, but iterations=0 skips them; legal: iterations >= 1"
            )
        self.every_n_epochs, self.iterations, self.early_stop = every_n_epochs, iterations, early_stop
        self.window, self.ratio, self.first_epoch = window, ratio, first_epoch
        self.eigenvalues: list[float] = []
        self.derived: list[Architecture] = []
        self.healthy: Architecture | None = None

    def check_length(self, epochs: int) -> None:
        """Refuse an early stop that cannot happen within the epochs of the search.

        Raises:
            ConfigError: names the numbers of records.
        """
        records, needed = -(-epochs // self.every_n_epochs), 2 * self.window - 1
        if self.early_stop and (records < needed or self.first_epoch >= epochs):
            raise ConfigError(
                f"search_health: early_stop=true cannot happen in trainer.max_epochs={epochs}: it compares two windows "
                f"of {self.window}, {needed} records, from first_epoch={self.first_epoch} on, and every_n_epochs="
                f"{self.every_n_epochs} makes {records}; legal: a smaller window, first_epoch or every_n_epochs, or "
                "early_stop=false"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.healthy is not None:  # resumed after the stop
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        epoch = trainer.current_epoch
        if not is_due(trainer, self.every_n_epochs):
            return
        eigenvalue: float | None = None
        if trainer.is_global_zero:
            probabilities = pl_module.probabilities()
            figures = self._examine(pl_module, probabilities)
            eigenvalue = figures["eigenvalue"]
            self.record("health.csv", {"epoch": epoch, "step": pl_module.position, **figures})
            self._record_edges(epoch, pl_module, probabilities)
            for name in _LOGGED:
                if (value := figures[name]) is not None:
                    pl_module.log(f"health/{name}", value, rank_zero_only=True)
        if self.early_stop:
            self._consider(trainer, pl_module.derive(), trainer.strategy.broadcast(eigenvalue))

    def _examine(self, module: SearchModule, probabilities: Mapping[str, Tensor]) -> dict[str, float | None]:
        """The figures of ``health.csv``; undefined ones are None. Needs no other process."""
        share, probability = skip_dominance(probabilities, module.space.gate_options)
        with untouched(module):
            supernet = module.task.score(module.validated(), module.scoring(), module.space.num_classes)
            derived = module.score(module.derive())
        first = [*module.data.score_batches(1)]
        eigenvalue = arch_eigenvalue(module, first, self.iterations) if self.iterations else None
        return {
            "skip_share": share,
            "skip_probability": probability,
            "entropy": float(torch.cat([entropies(rows) for rows in probabilities.values()]).mean()),
            "supernet_score": supernet,
            "derived_score": derived,
            "discretisation_gap": supernet - derived,
            "eigenvalue": eigenvalue,
        }

    def _record_edges(self, epoch: int, module: SearchModule, probabilities: Mapping[str, Tensor]) -> None:
        for group, rows in probabilities.items():
            best = rows.max(-1)
            columns = entropies(rows).tolist(), best.indices.tolist(), best.values.tolist()
            for choice, (value, index, probability) in enumerate(zip(*columns, strict=True)):
                option = module.space.gate_options[group][index]
                cells = epoch, group, choice, value, option, probability
                self.record("edges.csv", dict(zip(self.files["edges.csv"], cells, strict=True)))

    def _consider(self, trainer: pl.Trainer, derived: Architecture, eigenvalue: float | None) -> None:
        """Decide whether to stop; the decision is the same on all processes."""
        if eigenvalue is None:
            raise ConfigError(
                "search_health: early_stop=true needs a strategy whose arch_loss has a finite gradient in the "
                "architecture parameters; this strategy has none; set early_stop=false"
            )
        self.eigenvalues.append(abs(eigenvalue))
        self.derived.append(derived)
        averages = local_averages(self.eigenvalues, self.window)
        if trainer.current_epoch >= self.first_epoch and has_risen(averages, self.window, self.ratio):
            self.healthy = self.derived[-self.window]
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "eigenvalues": self.eigenvalues,
            "derived": [architecture.to_json() for architecture in self.derived],
            "healthy": None if self.healthy is None else self.healthy.to_json(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.eigenvalues = list(state_dict["eigenvalues"])
        self.derived = [Architecture.from_json(text) for text in state_dict["derived"]]
        healthy = state_dict["healthy"]
        self.healthy = None if healthy is None else Architecture.from_json(healthy)


def skip_dominance(
    probabilities: Mapping[str, Tensor], options: Mapping[str, Sequence[str]]
) -> tuple[float | None, float | None]:
    """Share of the choices at which a skip has the largest probability, and mean probability of skips.

    >>> skip_dominance({"edges": torch.tensor([[0.75, 0.25], [0.25, 0.75]])}, {"edges": ["skip", "conv"]})
    (0.5, 0.5)
    """
    largest, shares = [], []
    for group, rows in probabilities.items():
        skips = torch.tensor([is_skip(option) for option in options[group]], device=rows.device)
        if skips.any():
            largest.append(skips[rows.argmax(-1)].float())
            shares.append(rows[:, skips].sum(-1))
    return (float(torch.cat(largest).mean()), float(torch.cat(shares).mean())) if largest else (None, None)


def arch_eigenvalue(module: SearchModule, batches: Sequence[Batch], iterations: int = 20) -> float | None:
    """Dominant eigenvalue of the Hessian of ``arch_loss`` in the architecture parameters; None if it is undefined.

    Args:
        module: the search.
        batches: batches over which the loss is averaged.
        iterations: upper bound of the steps of the power iteration.
    """
    if not module.steps_architecture:
        return None
    parameters = module.arch_parameters()
    moved = [(x.to(module.device), y.to(module.device)) for x, y in batches]
    draw = generator(module.seed, "search health", module.position)

    def loss() -> Tensor:
        return torch.stack([module.arch_loss(batch) for batch in moved]).mean()

    with untouched(module):
        for weight in module.weight_parameters():
            weight.requires_grad_(False)
        if not parameters or not loss().requires_grad:
            return None
        start = torch.randn(sum(parameter.numel() for parameter in parameters), generator=draw).to(parameters[0])
        try:
            value = dominant_eigenvalue(exact_products(loss, parameters), start, iterations=iterations)
        except RuntimeError:  # an operation cannot be differentiated twice, or the memory does not suffice
            value = dominant_eigenvalue(difference_products(loss, parameters), start, iterations=iterations)
    return value if math.isfinite(value) else None
