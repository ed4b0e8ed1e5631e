r"""MdeNAS: multinomial distribution learning (Zheng et al., ICCV 2019, arXiv:1905.07529).

Every choice has a multinomial over its options, equal at first. In turns one option of each choice is drawn, that path
is trained on the weights part, and its accuracy on the arch part, which no weight is trained on, is measured. Of each
option are kept how often it was trained, :math:`H^e`, and the last accuracy of a path with it, :math:`H^a`; after each
turn, :func:`~lightning_nas.functional.multinomial.multinomial_update` moves the multinomials by both. The answer is the
space's own discretisation: the most probable option of each choice; in cells, of each node the strongest inputs.

A turn is an epoch in the paper. On small data that gives too few turns, of paths that have learnt too little to be
compared; ``path_batches`` is the number of batches in a turn, whatever the epochs, and ``warmup_epochs`` lets the
weights learn first. The rule moves nothing to an option that was trained more than the other: it evens out how often
options are trained, and with many turns the probabilities as well.

Options that a turn did not draw have no gradient, and the optimiser leaves them alone.

Differs from the paper: batch norm is recalibrated before the accuracy is measured, since a short turn leaves statistics
of other paths behind; the accuracy is taken on ``path_score_batches`` batches. An option that was never drawn has no
accuracy, so that nothing moves on its account.
"""

from typing import Any, ClassVar, Unpack

import torch
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.functional.multinomial import Rule, multinomial_update
from lightning_nas.functional.relaxation import entropies, ties
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import Gated, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.options import SearchOptions
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.recalibrate import recalibrate
from lightning_nas.training.seeding import generator as seeded_generator
from lightning_nas.training.untouched import untouched


class MdeNAS(SearchModule):
    r"""Multinomial distribution learning: one path a turn, probabilities moved by its accuracy (MdeNAS).

    .. math:: p_i \leftarrow p_i + \alpha \Big( \sum_j \mathbb{1}[\Delta H^e_{ij} < 0, \Delta H^a_{ij} > 0]
              - \sum_j \mathbb{1}[\Delta H^e_{ij} > 0, \Delta H^a_{ij} < 0] \Big)

    with, for options i and j of a choice, the differences of how often they were trained, :math:`H^e`, and of the last
    accuracy of a path with them, :math:`H^a`. Probabilities have the shape (choices, options).

    Source: Zheng et al., ICCV 2019, arXiv:1905.07529, section 3.3. Deviations: batch norm is recalibrated before the
    accuracy is measured; a turn may be shorter than an epoch; an option that was never drawn has no accuracy.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        alpha: probability that a pair of options moves.
        rule: "paper", or "safe" for the rule of the authors' later code.
        path_batches: batches of a turn; None for an epoch, as in the paper.
        path_score_batches: batches of the arch part on which the accuracy of a path is taken; None for all of them.
        warmup_epochs: epochs at the beginning without turns, with a new path every batch; 0 in the paper.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.

    Attributes:
        turns: number of turns so far.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = MdeNAS(ToySpace(), warmup_epochs=0, path_batches=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 4, 'architecture': 2}, 'toy')
    """

    warm_up: ClassVar[str] = "warmup_epochs"
    lengths: ClassVar[tuple[str, ...]] = ("warmup_epochs",)
    holds_out_arch = True

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        alpha: PositiveFloat = 0.01,
        rule: Rule = "paper",
        path_batches: Count | None = 5,
        warmup_epochs: NonNegativeInt = 30,
        path_score_batches: Count | None = 4,
        **options: Unpack[SearchOptions],
    ) -> None:
        super().__init__(space, task, table, **options)
        self.alpha, self.rule = alpha, rule
        self.path_batches, self.warmup_epochs = path_batches, warmup_epochs
        self.path_score_batches = path_score_batches
        self.turns, self._accuracy = 0, float("nan")
        shapes = space.gate_shapes.items()
        self.multinomials = _Buffers({g: torch.full(shape, 1 / shape[1]) for g, shape in shapes})
        self.trained = _Buffers({g: torch.zeros(shape) for g, shape in shapes})
        self.accuracies = _Buffers({g: torch.full(shape, float("nan")) for g, shape in shapes})

    def probabilities(self) -> dict[str, Tensor]:
        return {group: rows.clone() for group, rows in self.multinomials.items()}

    def draw_path(self, generator: torch.Generator) -> Gates:
        """One option of each choice, from its multinomial."""
        chosen = {
            group: torch.multinomial(rows.cpu(), 1, generator=generator).flatten().tolist()
            for group, rows in self.multinomials.items()
        }
        return Gates.one_hot(chosen, self.space.gate_shapes, self.device)

    def sample(self, generator: torch.Generator) -> Architecture:
        """The discretisation of one draw."""
        return self.space.derive(self.draw_path(generator).values)

    @property
    def path(self) -> Gates:
        """The path of this turn."""
        return self.draw_path(seeded_generator(self.seed, "path", self.turns))

    def gates(self, generator: torch.Generator) -> Gates:
        """The path of this turn; during the warm-up a new path for each batch."""
        return self.draw_path(generator) if self.current_epoch < self.warmup_epochs else self.path

    def arch_step_comes(self, first: int, end: int) -> bool:
        return self.path_batches is None or end // self.path_batches > first // self.path_batches

    @property
    def rhythm(self) -> str:
        return (
            f"strategy.path_batches={self.path_batches}, trainer.max_epochs={self.epochs}, "
            f"strategy.warmup_epochs={self.warmup_epochs}"
        )

    @property
    def steps_taken(self) -> dict[str, int]:
        return super().steps_taken | {"architecture": self.turns}

    def untouched(self) -> dict[str, list[int]]:
        return {
            group: [choice for choice, row in enumerate(rows) if torch.equal(row, torch.full_like(row, 1 / len(row)))]
            for group, rows in self.multinomials.items()
        }

    def tied(self) -> dict[str, list[int]]:
        return ties(self.probabilities())

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        if self._turn_is_over():
            self._apply_weights()
            self._end_turn()

    def _turn_is_over(self) -> bool:
        if self.current_epoch < self.warmup_epochs:
            return False
        if self.path_batches is None:
            return bool(self.trainer.is_last_batch)
        return (self.position + 1) % self.path_batches == 0

    def _end_turn(self) -> None:
        path = self.path
        self._accuracy = self.accuracy(path)
        with torch.no_grad():
            for group, gates in path.values.items():
                drawn = gates.bool()
                self.trained[group].add_(gates)
                self.accuracies[group][drawn] = self._accuracy
                state = self.trained[group], self.accuracies[group]
                self.multinomials[group].copy_(
                    multinomial_update(self.multinomials[group], *state, self.alpha, self.rule)
                )
        self.turns += 1

    def accuracy(self, path: Gates) -> float:
        """Score of a path on the arch part; leaves the supernet unchanged."""
        with untouched(self):
            network = Gated(self.supernet, path)
            recalibrate(network, self.calibration())
            scored = self.data.score_batches(self.path_score_batches, "arch")
            return self.task.score(network, scored, self.space.num_classes)

    def monitors(self) -> set[str]:
        return super().monitors() | {"arch/entropy", "arch/turns"}

    def log_search(self) -> None:
        self.log_batch("arch/entropy", torch.cat([entropies(rows) for rows in self.multinomials.values()]).mean())
        self.log_batch("arch/turns", float(self.turns))
        if self.turns:
            self.log_batch("arch/path_score", self._accuracy)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "turns": self.turns, "accuracy": self._accuracy}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.turns, self._accuracy = state["turns"], state["accuracy"]


class _Buffers(nn.Module):
    """Named tensors that are saved in checkpoints and not trained."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self._names = tuple(tensors)
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def items(self) -> list[tuple[str, Tensor]]:
        return [(name, self[name]) for name in self._names]

    def values(self) -> list[Tensor]:
        return [self[name] for name in self._names]
