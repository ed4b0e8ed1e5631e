"""BigNAS (Yu et al., ECCV 2020, arXiv:2003.11142): one training of a supernet whose networks are used as they are.

Every batch trains the largest architecture on the labels, and the smallest and some drawn ones on its outputs, and one
step is taken on the sum of their gradients: the sandwich rule with in-place distillation of
:class:`~lightning_nas.strategies.one_path.spos.SPOS`, whose evolution gives the answer. What is this method's own:
only the largest architecture is regularised, and the rate falls exponentially to a constant.

Dropout and its kin (stochastic depth, dropped blocks) are off while the others run. Weight decay is applied once a
step, to the shared weights, which are those of the largest architecture.

A weight that no architecture of a step uses, such as a matrix of smaller kernels, has no gradient and is not moved. The
largest uses all others, so momentum and weight decay move every one of them in every step.

Differs from the paper: the answer comes from an evolution, not from a grid of coarse choices that is refined; batch
norms begin with one at the end of residual blocks too, not with zero. In a network of one's own a dropout that is
called as a function, without a module, stays on.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Annotated, ClassVar, Unpack

from annotated_types import Interval
from pydantic import PositiveFloat
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import SGD

from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.strategies.one_path.spos import SPOS, check_nested
from lightning_nas.strategies.options import SearchOptions
from lightning_nas.tasks.base import Task
from lightning_nas.training.schedules import ExponentialToFloor

DROPPING = ("StochasticDepth", "DropPath", "DropBlock2d", "DropBlock3d")
"""Names of modules of torchvision and timm that drop something at random."""


class BigNAS(SPOS):
    r"""One training for networks of all sizes, of which the largest alone is regularised (BigNAS).

    .. math:: L(w) = \mathrm{CE}(f_{\max}(x; w), y) + \sum_{a \in \{\min, a_1, \dots, a_n\}}
              \mathrm{KL}\big(f_{\max}(x; w) \,\|\, f_a(x; w)\big), \qquad a_i \sim U

    The teacher has no gradient from the second term. The answer is the best of an evolution with the trained weights,
    and needs no further training: ``retrain.from=inherited``.

    Source: Yu et al., ECCV 2020, arXiv:2003.11142, sections 3.1 and 3.2. Deviations: see the module.

    Args:
        space: elastic space, or a network of one's own: its networks are parts of a largest one.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation; needed for a limit, and decides between equal scores.
        between: architectures drawn for each batch, beside the largest and the smallest.
        generations: of the evolution, the random first one included.
        population: architectures of a generation.
        parents: number of the best architectures that have children.
        mutation: probability of each decision of a parent to be drawn anew.
        limit: upper bound of the cost of every candidate, in the unit of the table; None for no bound.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.

    Raises:
        ConfigError: networks of the space are not parts of a largest one; a limit without a table, or below the
            cheapest architecture.

    Example:
        >>> import torch
        >>> from lightning_nas.spaces.own.space import FromModel
        >>> from lightning_nas.testing.toys import ToyData
        >>> from lightning_nas.training.network import quiet_trainer
        >>> layers = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)
        >>> space = FromModel(nn.Sequential(*layers), (1, 1, 4, 4))
        >>> search = BigNAS(space, generations=2, population=3, parents=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 8}, 'from_model')
    """

    nests: ClassVar[bool] = True
    defaults: ClassVar[SearchOptions] = {
        "weights_optimizer": partial(SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-5),
        "weights_scheduler": partial(ExponentialToFloor, gamma=0.75, floor=0.05),
    }

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        between: Count = 2,
        generations: Count = 10,
        population: Count = 20,
        parents: Count = 10,
        mutation: Annotated[float, Interval(ge=0, le=1)] = 0.1,
        limit: PositiveFloat | None = None,
        **options: Unpack[SearchOptions],
    ) -> None:
        check_nested(space, "strategy=bignas")
        super().__init__(
            space,
            task,
            table,
            sampling="sandwich",
            generations=generations,
            population=population,
            parents=parents,
            mutation=mutation,
            limit=limit,
            **BigNAS.defaults | options,
        )
        self.between = between

    def running(self, *, teaches: bool) -> AbstractContextManager[None]:
        """The largest architecture, which teaches, runs as it is, the others without dropout."""
        return nullcontext() if teaches else undropped(self.supernet)


@contextmanager
def undropped(network: nn.Module) -> Iterator[None]:
    """Switch off the modules of a network that drop something at random; all others stay in their mode.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5))
        >>> with undropped(network):
        ...     [module.training for module in network]
        [True, False]
        >>> network[1].training
        True
    """
    dropping = [m for m in network.modules() if m.training and _drops(m)]
    for module in dropping:
        module.training = False
    try:
        yield
    finally:
        for module in dropping:
            module.training = True


def _drops(module: nn.Module) -> bool:
    drops = isinstance(module, (_DropoutNd, nn.MultiheadAttention))  # the latter drops attention itself
    return drops or any(base.__name__ in DROPPING for base in type(module).__mro__)
