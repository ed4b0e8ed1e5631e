r"""P-DARTS: progressive differentiable architecture search (Chen, Xie, Wu, Tian, ICCV 2019, arXiv:1904.12760).

First-order DARTS in stages. Each stage begins afresh with a deeper supernet; between stages the options with the
smallest weights of each choice are dropped, so that depth comes nearer to that of the final network at bounded cost.
Skip connections, which would win because they are easy, are dropped out at a rate that decays within a stage, and the
normal cell may keep at most ``max_skips`` of them.

Differs from the paper: the supernets of all stages are built at the beginning (only that of the stage is run), so that
a checkpoint has one shape. A space of fixed depth is searched at the same depth in every stage.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Unpack

import torch
from annotated_types import Interval
from pydantic import NonNegativeInt
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError, NoStepError
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ops.altered import SkipDropoutMixedOp
from lightning_nas.ops.mixed import is_skip
from lightning_nas.ranges import Epochs
from lightning_nas.spaces.base import Supernet, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import small_noise
from lightning_nas.strategies.differentiable.staged import StagedSearch, StagedSupernet
from lightning_nas.strategies.options import DecayOptions, SchedulerFactory
from lightning_nas.strategies.parts import flat
from lightning_nas.tasks.base import Task
from lightning_nas.training.schedules import OverEpochs, cosine_stages

Rate = Annotated[float, Interval(ge=0, lt=1)]


class PDARTS(StagedSearch):
    r"""Progressive differentiable search with deeper supernets and fewer options in each stage (P-DARTS).

    Every stage s is a first-order DARTS of its own logits :math:`\alpha^s` (choices, options) on a deeper supernet,

    .. math:: \bar{o}(x) = \sum_{o \in K_s} \mathrm{softmax}_{K_s}(\alpha^s)_o \, o(x), \qquad
              K_{s+1} = \mathrm{top}_{|K_s| - d_s} \, \mathrm{softmax}(\alpha^s)

    with dropout of skip connections that decays within a stage, and at most ``max_skips`` of them in the normal cell.

    Source: Chen, Xie, Wu and Tian, ICCV 2019, arXiv:1904.12760, sections 3.2 and 3.3. Deviations: the supernets of all
    stages are built at the beginning, so that a checkpoint has one shape.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging and for a penalty; None measures it where a penalty needs it.
        stage_epochs: epochs of each stage; ``Trainer(max_epochs=...)`` is this times the number of stages.
        added_cells: number of cells that the supernet of each stage has more than the space.
        dropped: number of options that each choice loses after each stage but the last; two always remain.
        skip_dropout: initial dropout rate of skip connections in each stage.
        max_skips: largest number of skip connections in the group ``normal``, where the space has one.
        arch_warmup_epochs: epochs at the beginning of each stage without architecture steps.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.

    Raises:
        ConfigError: the lists do not have an entry for each stage; when the search begins: it would end before its last
            stage takes architecture steps.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> stages = {"stage_epochs": 1, "added_cells": (0, 0), "dropped": (1,), "skip_dropout": (0.0, 0.4)}
        >>> search = PDARTS(ToySpace(), arch_warmup_epochs=0, **stages)
        >>> quiet_trainer(2).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 8, 'architecture': 8}, 'toy')
    """

    mixes: ClassVar[bool] = True
    perturbable: ClassVar[bool] = False
    per_stage: ClassVar[str] = "added_cells"
    lengths: ClassVar[tuple[str, ...]] = ("arch_warmup_epochs", "stage_epochs", "added_cells")
    schedule_length: ClassVar[str | None] = "stage_epochs"
    defaults: ClassVar[DecayOptions] = {"weights_scheduler": cosine_stages(), "arch_warmup_epochs": 1}

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        stage_epochs: Epochs = 4,
        added_cells: Sequence[Annotated[int, Interval(ge=0, le=200)]] = (0, 1, 2),
        dropped: Sequence[NonNegativeInt] = (3, 2),
        skip_dropout: Sequence[Rate] = (0.0, 0.4, 0.7),
        max_skips: NonNegativeInt = 2,
        **options: Unpack[DecayOptions],
    ) -> None:
        if not len(added_cells) == len(skip_dropout) == len(dropped) + 1:
            raise ConfigError(
                f"strategy.added_cells and strategy.skip_dropout need one entry a stage and strategy.dropped one less, "
                f"got {len(added_cells)}, {len(skip_dropout)} and {len(dropped)}"
            )
        self.spaces = [space.deeper(cells) for cells in added_cells]  # make_supernet needs them
        super().__init__(space, task, table, **PDARTS.defaults | options)
        self.stages, self.stage_epochs, self.added_cells = len(added_cells), stage_epochs, added_cells
        self.dropped, self.skip_dropout = dropped, skip_dropout
        self.max_skips = max_skips
        self._mixed = [module for module in self.supernet.modules() if isinstance(module, SkipDropoutMixedOp)]
        self.theta.update(self._later_theta())
        self._keep_all()

    def make_supernet(self) -> Supernet:
        return StagedSupernet([space.supernet(SkipDropoutMixedOp) for space in self.spaces], lambda: self.stage)

    # -- stages -------------------------------------------------------------------------------------------------

    def make_schedule(self, make: SchedulerFactory, optimizer: Optimizer) -> Any:
        """A learning-rate schedule; one whose length is open takes that of a stage."""
        return (make.of(self.stage_epochs) if isinstance(make, OverEpochs) else make)(optimizer)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        first = self.skip_dropout[self.stage]
        rate = skip_rate(first, self.epoch_of_stage, self.stage_epochs, self.arch_warmup_epochs)
        for mixed in self._mixed:
            mixed.rate = rate

    def end_stage(self) -> None:
        self.keep(lambda left: max(2, left - self.dropped[self.stage]))

    # -- DARTS in the current stage -----------------------------------------------------------------------------

    def arch_parameters(self) -> list[nn.Parameter]:
        return list(self.theta.values())

    def _later_theta(self) -> nn.ParameterDict:
        """The logits of the stages after the first as they are at the beginning."""
        stages = range(1, len(self.spaces))
        shapes = {f"{group}_{stage}": shape for group, shape in self.space.gate_shapes.items() for stage in stages}
        return small_noise(shapes, self.theta_std, self.seed, "theta of later stages")

    def initial_theta(self) -> dict[str, Tensor]:
        """The logits the present stage began with."""
        if not self.stage:
            return super().initial_theta()
        later = self._later_theta()
        return {group: later[f"{group}_{self.stage}"] for group in self.space.gate_shapes}

    def logits(self, group: str) -> Tensor:
        return super().logits(f"{group}_{self.stage}" if self.stage else group)

    def check_steps(self) -> None:
        """Refuse to answer before the present stage, whose logits decide, took an architecture step.

        Raises:
            NoStepError: names the stage.
        """
        super().check_steps()
        if all(len(rows) == len(self.logits(group)) for group, rows in self.untouched().items()):
            raise NoStepError(
                f"the search ended in the warm-up of stage {self.stage + 1} of {len(self.spaces)}, whose logits decide "
                "and took no step; see max_epochs, max_time, max_steps, stage_epochs, arch_warmup_epochs"
            )

    def competing(self, group: str) -> Tensor:
        return self.logits(group).masked_fill(~self.kept_options(group), -math.inf)

    def gates(self, generator: torch.Generator) -> Gates:
        return Gates({group: self.competing(group).softmax(-1) for group in self.space.gate_shapes}, self.active())

    def distribution(self) -> dict[str, Tensor]:
        return {group: self.competing(group).softmax(-1) for group in self.space.gate_shapes}

    def inherited(self, architecture: Architecture) -> nn.Module:
        assert isinstance(self.supernet, StagedSupernet)
        return self.spaces[self.stage].extract(self.supernet.present, architecture)

    @property
    def answer_rule(self) -> str:
        return f"{super().answer_rule}; at most {self.max_skips} skip connections in a normal cell"

    def projected(self) -> Architecture:
        """As :meth:`derive`; with a target the most probable that meets it, with few skip connections if possible."""
        if self.target is None:
            return self.derive()
        skips = {group: torch.zeros(shape) for group, shape in self.space.gate_shapes.items()}
        for i, name in enumerate(self.space.gate_options.get("normal", ())):
            skips["normal"][:, i] = float(is_skip(name))
        return self.target.project(self.preferences(), [(flat(skips), float(self.max_skips))])

    def derive(self) -> Architecture:
        """The rule of the space, without the weakest skip connections of a normal cell that has too many."""
        probabilities = self.probabilities()
        skips = [i for i, name in enumerate(self.space.gate_options.get("normal", ())) if is_skip(name)]
        while True:
            architecture = self.space.derive(probabilities)
            chosen = self.space.gates(architecture).values.get("normal")
            if chosen is None or float(chosen[:, skips].sum()) <= self.max_skips:
                return architecture
            weights = probabilities["normal"][:, skips].masked_fill(chosen[:, skips].to(self.device) == 0, math.inf)
            row, column = divmod(int(weights.argmin()), len(skips))
            probabilities["normal"][row, skips[column]] = -1.0  # below options that were dropped


def skip_rate(first: float, epoch: int, epochs: int, warmup: int) -> float:
    """Rate of skip dropout in an epoch of a stage: linear decay while alpha is fixed, then exponential decay.

    >>> [round(skip_rate(0.4, epoch, 25, 10), 7) for epoch in (0, 9, 10, 15)]
    [0.384, 0.24, 0.4, 0.1471518]
    """
    return first * (epochs - epoch - 1) / epochs if epoch < warmup else first * math.exp(-0.2 * (epoch - warmup))
