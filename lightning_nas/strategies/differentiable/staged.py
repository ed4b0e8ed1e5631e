"""Base class of differentiable searches in stages that drop options, and the supernet of such a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_nas.errors import ConfigError
from lightning_nas.spaces.base import Supernet
from lightning_nas.spaces.gates import Active
from lightning_nas.strategies.differentiable.base import DifferentiableSearch


class StagedSearch(DifferentiableSearch):
    """Base class of searches whose stages have a supernet and options of their own.

    A subclass makes a :class:`StagedSupernet`, sets the attributes, and calls :meth:`keep` in :meth:`end_stage`.

    Attributes:
        per_stage: name of the setting that has an entry for each stage.
        stages: number of stages.
        stage_epochs: epochs of each stage.
    """

    per_stage: ClassVar[str]
    stages: int
    stage_epochs: int

    @property
    def stage(self) -> int:
        """The current stage, from 0."""
        return min(self.current_epoch // self.stage_epochs, self.stages - 1)

    @property
    def epoch_of_stage(self) -> int:
        """Epochs since the current stage began."""
        return self.current_epoch - self.stage * self.stage_epochs

    @classmethod
    def check_lengths(cls, epochs: int, settings: Mapping[str, Any], *, shortened: bool = False) -> None:
        """Refuse a search that ends before its last stage takes architecture steps; a debugging run may.

        Raises:
            ConfigError: names all lengths and what a whole search has.
        """
        stages, length, warm_up = (settings[name] for name in (cls.per_stage, "stage_epochs", "arch_warmup_epochs"))
        whole = len(stages) * length
        said = (
            f"trainer.max_epochs={epochs}, strategy.stage_epochs={length}, strategy.arch_warmup_epochs={warm_up}; a "
            f"whole search of {len(stages)} stages has max_epochs={whole}, its warm-up less than a stage"
        )
        if warm_up >= min(epochs, length):
            raise ConfigError(f"no architecture step can be taken: {said}")
        if epochs <= whole - length + warm_up and not shortened:
            raise ConfigError(f"the last stage, whose logits are the answer, takes no architecture step: {said}")

    @property
    def first_arch_epoch(self) -> int:
        """The end of the warm-up of the last stage that the search comes to."""
        return min((self.epochs - 1) // self.stage_epochs, self.stages - 1) * self.stage_epochs + (
            self.arch_warmup_epochs
        )

    def _arch_is_due(self) -> bool:
        return self.epoch_of_stage >= self.arch_warmup_epochs and self.position % self.arch_every == 0

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        if (self.current_epoch + 1) % self.stage_epochs == 0 and self.stage < self.stages - 1:
            self.end_stage()

    def end_stage(self) -> None:
        """Called at the end of each stage but the last: drop options, and prepare the next supernet."""
        raise NotImplementedError

    # -- options that are left ----------------------------------------------------------------------------------

    def _keep_all(self) -> None:
        for group, shape in self.space.gate_shapes.items():
            self.register_buffer(f"kept_{group}", torch.ones(shape, dtype=torch.bool))

    def kept_options(self, group: str) -> Tensor:
        """(choices, options): whether an option is left; as many in each choice of the group."""
        return self.get_buffer(f"kept_{group}")

    def keep(self, count: Callable[[int], int]) -> None:
        """Keep the most probable options of each choice: ``count`` of the number that is left."""
        for group, rows in self.probabilities().items():
            kept = self.kept_options(group)
            left = int(kept[0].sum())
            kept &= keep_largest(rows, min(left, count(left)))

    def active(self) -> dict[str, Active]:
        """Numbers of the options that are left, for each choice, by group."""
        return {
            group: tuple(tuple(i for i, kept in enumerate(row) if kept) for row in self.kept_options(group).tolist())
            for group in self.space.gate_shapes
        }


def keep_largest(rows: Tensor, count: int) -> Tensor:
    """Mask of the ``count`` largest entries of each row.

    >>> keep_largest(torch.tensor([[0.1, 0.4, 0.5]]), 2).tolist()
    [[False, True, True]]
    """
    kept = torch.zeros_like(rows, dtype=torch.bool)
    return kept.scatter_(-1, rows.topk(count, -1).indices, True)


class StagedSupernet(Supernet):
    """The supernets of all stages, of which the current one runs.

    Args:
        supernets: one for each stage.
        stage: returns the number of the current stage.
    """

    def __init__(self, supernets: Sequence[Supernet], stage: Callable[[], int]) -> None:
        super().__init__()
        self.stages = torch.nn.ModuleList(supernets)
        self._stage = stage

    def of(self, stage: int) -> Supernet:
        """The supernet of a stage."""
        supernet = self.stages[stage]
        assert isinstance(supernet, Supernet)
        return supernet

    @property
    def present(self) -> Supernet:
        """The supernet of the current stage."""
        return self.of(self._stage())

    def forward(self, x: Tensor, gates: Any) -> Tensor:
        logits: Tensor = self.present(x, gates)
        return logits
