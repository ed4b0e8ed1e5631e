r"""DrNAS: Dirichlet neural architecture search (Chen, Wang, Cheng, Tang, Hsieh, ICLR 2021, arXiv:2006.10355).

The weights of the options of a choice are random: a Dirichlet sample with the concentrations
:math:`\mathrm{elu}(\theta) + 1`, a new one in every pass, and the gradient of :math:`\theta` goes through the sample.
The divergence from the flat Dirichlet is added to the loss of :math:`\theta`. The search is progressive: the first
stage mixes few channels and all options, later stages more channels and the better options.

Differs from the paper: the supernets of all stages are built at the beginning (only that of the stage is run), so that
a checkpoint has one shape. Choices are ranked by the mean of their Dirichlet, as in the paper; the authors' code takes
the softmax of the logits, which has the same order within a choice. Options that were dropped have no divergence. The
same channels are copied in all operations when a supernet becomes wider, so that the layers of one operation agree. The
authors' code has weight decay of the logits in place of the divergence by default: ``kl=0`` and
``arch_optimizer.weight_decay=1e-3``.
"""

import copy
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, ClassVar, Unpack

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.optim import Adam

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.functional.dirichlet import concentration, kl_to_flat, sample_dirichlet
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ops.altered import partial_channels
from lightning_nas.ranges import Count, Epochs
from lightning_nas.spaces.base import Gated, Supernet, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.staged import StagedSearch, StagedSupernet
from lightning_nas.strategies.options import PerturbableOptions
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.seeding import generator


class DrNAS(StagedSearch):
    r"""Differentiable search with Dirichlet weights, in progressive stages (DrNAS).

    .. math:: \bar{o}(x) = \sum_o z_o \, o(x), \quad z \sim \mathrm{Dir}(c), \quad c = \mathrm{elu}(\theta) + 1, \qquad
              \min_\theta \mathbb{E}_z\big[L_{val}\big] + \lambda \sum \mathrm{KL}\big(\mathrm{Dir}(c) \,\|\,
              \mathrm{Dir}(1)\big)

    with logits :math:`\theta` (choices, options). Each stage mixes 1/k of the channels as PC-DARTS does, without edge
    normalisation. At its end each choice keeps its best options, and the next supernet, with more channels in the
    mixture, begins with the weights of the last one: new channels are copies of old ones (Net2Wider), with their
    momentum. The logits go on.

    Source: Chen et al., ICLR 2021, arXiv:2006.10355, sections 2.2 and 2.3. Deviations: the supernets of all stages are
    built at the beginning; dropped options have no divergence; scores are those of the path of the supernet, partial as
    it was trained.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging and for a penalty; None measures it where a penalty needs it.
        k: for each stage, one in k channels is mixed, and never fewer than in the stage before; 1 mixes all. (6, 4) in
            the paper on DARTS' cells with 36 channels, (4, 2) on NAS-Bench-201.
        kept: number of options that each choice keeps after each stage but the last, 4 of 7 in the paper on DARTS'
            cells, 3 of 5 on NAS-Bench-201.
        stage_epochs: epochs of each stage; ``Trainer(max_epochs=...)`` is this times the number of stages.
        kl: weight :math:`\lambda` of the divergence, a sum over all choices.
        arch_warmup_epochs: epochs at the beginning of each stage without architecture steps.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.

    Raises:
        ConfigError: the lists do not have an entry for each stage, or a stage mixes fewer channels than the one before;
            when the search begins: it would end before its last stage takes architecture steps.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = DrNAS(ToySpace(), k=(2, 1), kept=(2,), stage_epochs=1, arch_warmup_epochs=0)
        >>> quiet_trainer(2).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 8, 'architecture': 8}, 'toy')
    """

    softmax: ClassVar[bool] = False
    per_stage: ClassVar[str] = "k"
    lengths: ClassVar[tuple[str, ...]] = ("arch_warmup_epochs", "stage_epochs", "k")
    defaults: ClassVar[PerturbableOptions] = {
        "arch_optimizer": partial(Adam, lr=0.05, betas=(0.5, 0.999)),
        "arch_warmup_epochs": 1,
    }

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        k: Sequence[Count] = (1, 1),
        kept: Sequence[Annotated[int, Interval(ge=2)]] = (4,),
        stage_epochs: Epochs = 6,
        kl: NonNegativeFloat = 1e-3,
        **options: Unpack[PerturbableOptions],
    ) -> None:
        if not k or len(k) != len(kept) + 1:
            raise ConfigError(
                f"strategy.k needs one entry a stage and strategy.kept one less, got {len(k)} and {len(kept)}"
            )
        if any(later > first for first, later in pairwise(k)):
            raise ConfigError(f"strategy.k={list(k)}: a stage cannot mix fewer channels than the one before")
        self.k = k  # make_supernet needs it
        super().__init__(space, task, table, **DrNAS.defaults | options)
        self.stages, self.stage_epochs, self.left, self.kl = len(k), stage_epochs, kept, kl
        self._keep_all()
        self._check_widths()

    def make_supernet(self) -> Supernet:
        mixes = [partial(partial_channels, k=k) if k > 1 else None for k in self._widths]
        return StagedSupernet([self.space.supernet(mix) for mix in mixes], lambda: self._supernet_of(self.stage))

    @property
    def _widths(self) -> list[int]:
        """The different entries of ``k``, one for each supernet."""
        return list(dict.fromkeys(self.k))

    def _supernet_of(self, stage: int) -> int:
        return self._widths.index(self.k[stage])

    def _check_widths(self) -> None:
        assert isinstance(self.supernet, StagedSupernet)
        states = [self.supernet.of(number).state_dict() for number in range(len(self._widths))]
        for old, new in pairwise(states):
            narrower = (n for n in old if any(a > b for a, b in zip(old[n].shape, new[n].shape, strict=True)))
            if (name := next(narrower, None)) is not None:
                raise ConfigError(
                    f"strategy.k={list(self.k)}: a stage has fewer channels in {name} than the one before, since a "
                    f"choice whose channels are no multiple of k mixes all; legal: divisors of the channels of "
                    f"{self.space.name}"
                )

    # -- Dirichlet weights --------------------------------------------------------------------------------------

    def concentrations(self, group: str) -> Tensor:
        """(choices, options left): the concentrations of the options that are left, in their order."""
        kept = self.kept_options(group)
        return concentration(self.theta[group][kept].view(len(kept), -1))

    def _spread(self, group: str, values: Tensor) -> Tensor:
        """Values of the options that are left, and 0 for the others."""
        kept = self.kept_options(group)
        return torch.zeros_like(self.theta[group]).masked_scatter(kept, values)

    def gates(self, generator: torch.Generator) -> Gates:
        """One sample of the Dirichlet of each choice, differentiable in the logits."""
        drawn = {g: sample_dirichlet(self.concentrations(g), generator) for g in self.space.gate_shapes}
        return Gates({group: self._spread(group, rows) for group, rows in drawn.items()}, self.active())

    def distribution(self) -> dict[str, Tensor]:
        """The mean of the Dirichlet of each choice."""
        all_of = {group: self.concentrations(group) for group in self.space.gate_shapes}
        return {group: self._spread(group, c / c.sum(-1, keepdim=True)) for group, c in all_of.items()}

    def arch_loss(self, batch: Batch) -> Tensor:
        divergence = torch.cat([kl_to_flat(self.concentrations(group)) for group in self.space.gate_shapes]).sum()
        return super().arch_loss(batch) + self.kl * divergence

    def validated(self) -> nn.Module:
        """The supernet of the stage with every option that is left weighted by its probability."""
        return Gated(self.supernet, Gates(self.probabilities(), self.active()))

    def inherited(self, architecture: Architecture) -> nn.Module:
        return Gated(self.supernet_copy(), self.space.gates(architecture))

    def supernet_copy(self) -> Supernet:
        assert isinstance(self.supernet, StagedSupernet)
        return copy.deepcopy(self.supernet.present)

    # -- stages -------------------------------------------------------------------------------------------------

    def end_stage(self) -> None:
        self.keep(lambda _: self.left[self.stage])
        assert isinstance(self.supernet, StagedSupernet)
        before, after = self._supernet_of(self.stage), self._supernet_of(self.stage + 1)
        if before != after:
            self._widen(self.supernet.of(before), self.supernet.of(after))

    def _widen(self, old: Supernet, new: Supernet) -> None:
        """Give a supernet the weights of another one with fewer channels in its mixtures, with their momentum."""
        copies = Copies(generator(self.seed, "wider", self.stage))
        wider = new.state_dict()
        new.load_state_dict({name: copies.of(value, wider[name].shape) for name, value in old.state_dict().items()})
        states = self._optimizer("weights").optimizer.state
        for (_, before), (_, after) in zip(old.named_parameters(), new.named_parameters(), strict=True):
            states[after] = {
                name: copies.of(value, after.shape) if value.shape == before.shape else value.clone()
                for name, value in states[before].items()
                if isinstance(value, Tensor)
            }


class Copies:
    """Wider tensors whose new channels are copies of old ones (Net2Wider, Chen et al., 2016, arXiv:1511.05641).

    Channels from ``few`` to ``many`` are always the same copies, so that layers that follow each other agree. Copies
    are not divided by their number, as in the authors' code of DrNAS: batch norm takes out what that changes.

    Args:
        generator: draws which channels are copied.

    Example:
        >>> copies = Copies(torch.Generator().manual_seed(0))
        >>> wider = copies.of(torch.tensor([1.0, 2.0]), torch.Size([4]))
        >>> wider[:2].tolist(), bool(torch.equal(wider, copies.of(torch.tensor([1.0, 2.0]), torch.Size([4]))))
        ([1.0, 2.0], True)
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self._drawn: dict[tuple[int, int], Tensor] = {}

    def of(self, tensor: Tensor, shape: torch.Size) -> Tensor:
        """A copy of a tensor in a shape that is as large or larger in each dimension."""
        wider = tensor.detach().clone()
        for dimension, (few, many) in enumerate(zip(tensor.shape, shape, strict=True)):
            if few != many:
                wider = wider.index_select(dimension, self._index(few, many).to(wider.device))
        return wider

    def _index(self, few: int, many: int) -> Tensor:
        if (few, many) not in self._drawn:
            drawn = torch.randint(few, (many - few,), generator=self.generator)
            self._drawn[few, many] = torch.cat([torch.arange(few), drawn])
        return self._drawn[few, many]
