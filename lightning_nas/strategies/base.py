"""Base class of searches with shared weights: a supernet, gates, scores, and an answer."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar, Literal

import pytorch_lightning as pl
import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.optim import SGD

from lightning_nas.architecture import Architecture
from lightning_nas.data.attach import attach
from lightning_nas.data.base import SearchData
from lightning_nas.data.loaders import SearchLoader, limited
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count, Seed
from lightning_nas.signature import Checked
from lightning_nas.spaces.base import Supernet, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.evolution import Candidate
from lightning_nas.strategies.loop import ArchSteps, GroupTraining, SearchLoop
from lightning_nas.strategies.options import OptimizerFactory, SchedulerFactory
from lightning_nas.strategies.sizes import check_sizes
from lightning_nas.strategies.target import Target, Wanted
from lightning_nas.strategies.usual import usual_task
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.recalibrate import recalibrate
from lightning_nas.training.schedules import cosine
from lightning_nas.training.seeding import generator, seeded


class SearchModule(Checked, SearchLoop):
    """Base class of searches on a space with shared weights.

    Subclasses implement :meth:`sample`, and where the paper needs it :meth:`probabilities`, :meth:`gates`,
    :meth:`weights_loss`, :meth:`derive` and :meth:`choose`.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for strategies that use costs and for logging.
        seed: seed of the initial weights and of all other random numbers.
        weights_optimizer: makes the optimiser of the shared weights from a list of parameter groups.
        weights_scheduler: makes the learning-rate schedule of the weights; one step an epoch. None: a constant rate.
        weights_clip: largest gradient norm of the weights step; None for no clipping.
        accumulate: weights batches whose gradients are averaged before one step.
        calibration_batches: training batches on which batch norm is recalibrated before an architecture is scored.
        score_batches: at most that many batches of the scored part; None for the whole of it.
        target: largest cost of the answer in the unit of the table, or costs by "table", "ms", "macs" and "params";
            None for no bound. See :mod:`lightning_nas.strategies.target`.
        arch: how architecture parameters are trained, given by subclasses that have some.

    Raises:
        ConfigError: no architecture keeps the target.

    Attributes:
        target: the costs that the answer must keep; None for no bound.
        scored: the architectures that :meth:`answer` compared, with their scores; empty if it scored none.
        evolved: the same with their generations, if they come from an evolution.
        mixes: whether it mixes options in a way of its own, which spaces whose options share weights refuse.
        nests: whether it needs a space whose networks are parts of a largest one.
        drawn_a_step: options of each choice that are drawn for one weights step; None if all are trained.
    """

    mixes: ClassVar[bool] = False
    nests: ClassVar[bool] = False
    drawn_a_step: int | None = 1

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        seed: Seed = 0,
        weights_optimizer: OptimizerFactory = partial(SGD, lr=0.1, momentum=0.9, weight_decay=3e-4),
        weights_scheduler: SchedulerFactory | None = cosine(),
        weights_clip: PositiveFloat | None = 5.0,
        accumulate: Count = 1,
        calibration_batches: Count = 4,
        score_batches: Count | None = None,
        target: Wanted | None = None,
        arch: ArchSteps | None = None,
    ) -> None:
        super().__init__(seed, GroupTraining(weights_optimizer, weights_scheduler, weights_clip), accumulate, arch)
        self.space, self.task, self.table = space, task or usual_task(space), table
        self.target = Target.of(space, table, target, seed)
        with seeded(seed, "supernet"):
            self.supernet = self.make_supernet()
        self.calibration_batches, self.score_batches = calibration_batches, score_batches
        self.scored: dict[Architecture, float] = {}
        self.evolved: list[Candidate] = []
        self._metrics = self.task.metrics(space.num_classes)

    # -- what a strategy defines --------------------------------------------------------------------------------

    def make_supernet(self) -> Supernet:
        """The supernet with fresh weights; called once, inside the seed of the search."""
        return self.space.supernet()

    def gates(self, generator: torch.Generator) -> Gates:
        """Gates of one training forward pass; by default those of one sample, without gradient."""
        return self.space.gates(self.kept(self.sample(generator), generator)).to(self.device)

    def probabilities(self) -> dict[str, Tensor]:
        """``{group: (choices, options)}``: current probability of each option, rows sum to one; without gradient.

        By default the frequencies in 1,000 samples, drawn from the same generator every time.
        """
        count = 1000
        drawn = Counter(self.draw(count, generator(self.seed, "probabilities")))
        shares = torch.tensor(list(drawn.values())) / count
        gates = [self.space.gates(architecture).values for architecture in drawn]
        rows = {group: torch.stack([values[group] for values in gates], -1) for group in self.space.gate_shapes}
        return {group: options @ shares for group, options in rows.items()}

    def draw(self, count: int, generator: torch.Generator) -> Sequence[Architecture]:
        """``count`` samples; a strategy may override it with a faster way than one by one."""
        return [self.sample(generator) for _ in range(count)]

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Architecture:
        """One architecture, drawn as the strategy currently prefers."""

    def derive(self) -> Architecture:
        """The architecture that the current preferences give, by the discretisation of the space; no target counts."""
        return self.space.derive(self.preferences())

    def preferences(self) -> dict[str, Tensor]:
        """``{group: (choices, options)}``: what :meth:`derive` discretises, by default the :meth:`probabilities`."""
        return self.probabilities()

    def projected(self) -> Architecture:
        """The answer that the current preferences give: :meth:`derive`, or the most probable that meets the target."""
        return self.derive() if self.target is None else self.target.project(self.preferences())

    def kept(self, architecture: Architecture, generator: torch.Generator) -> Architecture:
        """The architecture itself; if there is a target that it does not meet, one nearby that does."""
        return architecture if self.target is None else self.target.nearest(architecture, generator)

    @property
    def answer_rule(self) -> str:
        """How :meth:`choose` finds the answer, in words for the report."""
        return "the discretisation of the probabilities at the end of the search; scores are not used"

    def choose(self) -> Architecture:
        """The answer of a finished search; may score candidates, by default :meth:`projected`."""
        return self.projected()

    def answer(self) -> Architecture:
        """The architecture that the search has found.

        Raises:
            NoStepError: the search took no weights step, or no architecture step.
        """
        self.check_steps()
        return self.choose()

    def untouched(self) -> dict[str, list[int]]:
        """Numbers of the choices that the search has left as they were at its beginning, by group.

        Empty for strategies that keep no preference for each choice.
        """
        return {}

    def tied(self) -> dict[str, list[int]]:
        """Numbers of the choices with several options of the largest probability, by group; empty as above."""
        return {}

    @property
    def updates(self) -> float:
        """About how many weights steps trained each option of the choice that has the most options."""
        most = max(options for _, options in self.space.gate_shapes.values())
        missed = 0.0 if self.drawn_a_step is None else (1 - 1 / most) ** self.drawn_a_step
        return self.steps_taken["weights"] * (1 - missed)

    def weights_loss(self, batch: Batch) -> Tensor:
        """Loss of the weights step: the task loss under the gates of this batch."""
        return self.task_loss(batch, self.gates(self.generator("weights")))

    def arch_loss(self, batch: Batch) -> Tensor:
        """Loss of the architecture step: the task loss on the arch part, under gates of its own."""
        return self.held_out_loss(batch, self.gates(self.generator("arch")))

    def task_loss(self, batch: Batch, gates: Gates) -> Tensor:
        """Task loss of the supernet under ``gates``, with the regularisation of the weights."""
        return self.task.training_loss(self.supernet(batch[0], gates), batch)

    def held_out_loss(self, batch: Batch, gates: Gates) -> Tensor:
        """Task loss without weight regularisation, on held-out data."""
        return self.task.loss(self.supernet(batch[0], gates), batch[1])

    def weight_parameters(self) -> list[nn.Parameter]:
        """The shared weights, in definition order."""
        return list(self.supernet.parameters())

    def validation_monitors(self) -> set[str]:
        """Quantities that every validation logs, for callbacks such as ``ModelCheckpoint``."""
        return {"val/loss", *(f"val/{name}" for name in self._metrics)}

    # -- data ---------------------------------------------------------------------------------------------------

    def configure_callbacks(self) -> list[pl.Callback]:
        attach(self.trainer, self.seed).expect(self.task.targets)  # here, so that Lightning sets up what it reads
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if (longest := getattr(callback, "longest_warm_up", None)) is not None:
                self.shorten_warm_up(longest)
        return super().configure_callbacks()

    def setup(self, stage: str) -> None:
        self.check(stage)

    def check(self, stage: str) -> None:
        """Refuse data and lengths that do not go with the search, before anything is trained.

        Raises:
            DataError: the data have another size than the space.
            ConfigError: no architecture step would be taken.
        """
        check_sizes(self.space, self.data, self.task)
        if stage == "fit":
            loader = self.data.train_dataloader()
            before = loader.before_arch if isinstance(loader, SearchLoader) else 0
            self.check_length(limited(len(loader), self.trainer.limit_train_batches), before)

    @property
    def data(self) -> SearchData:
        """The data module of the trainer."""
        data: SearchData = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    # -- scores -------------------------------------------------------------------------------------------------

    def score(
        self,
        architecture: Architecture,
        batches: tuple[Iterable[Batch], Iterable[Batch]] | None = None,
        *,
        part: Literal["val", "arch"] = "val",
    ) -> float:
        """Score of an architecture with inherited weights and recalibrated batch norm.

        Args:
            architecture: of this space.
            batches: to recalibrate on, and to score on; None for :meth:`calibration` and :meth:`scoring`.
            part: of the data to score on where no batches are given.

        Returns:
            The score of the task, higher is better.
        """
        calibration, scored = batches or (self.calibration(), self.scoring(part))
        network = self.inherited(architecture)
        recalibrate(network, calibration)
        return self.task.score(network, scored, self.space.num_classes)

    def calibration(self) -> list[Batch]:
        """The training batches on which batch norm is recalibrated."""
        return self.data.calibration_batches(self.calibration_batches)

    def scoring(self, part: Literal["val", "arch"] = "val") -> Iterable[Batch]:
        """The batches of a part that architectures are scored on."""
        return self.data.score_batches(self.score_batches, part)

    def inherited(self, architecture: Architecture) -> nn.Module:
        """The network of ``architecture`` with a copy of the shared weights, which :meth:`score` evaluates."""
        return self.space.extract(self.supernet, architecture)

    @torch.no_grad()
    def path_reward(self, batch: Batch, gates: Gates) -> float:
        """Reward of a path of the supernet on one batch, with the batch statistics of batch norm."""
        x, y = batch
        metrics = self.task.metrics(self.space.num_classes, synced=False).to(y.device)
        metrics.update(self.supernet(x, gates), y)
        return self.task.reward(float(metrics.compute()[self.task.score_name]))

    def validated(self) -> nn.Module:
        """The network that validation evaluates: one sample with inherited weights and recalibrated batch norm."""
        generator = self.generator("validation")
        network = self.inherited(self.kept(self.sample(generator), generator))
        recalibrate(network, self.calibration())
        return network

    def on_validation_epoch_start(self) -> None:
        self._validated = (self.validated(),)  # a tuple, so that it does not become a submodule

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and metrics of :meth:`validated`."""
        x, y = batch
        output = self._validated[0](x)
        self._metrics.update(output, y)
        self.log("val/loss", self.task.loss(output, y), sync_dist=True, batch_size=len(y))

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self._metrics.compute().items()}, prog_bar=True)
        self._metrics.reset()
