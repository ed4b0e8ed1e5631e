"""Random search with shared weights (Li, Talwalkar, UAI 2019, arXiv:1902.07638), the baseline of one-shot methods.

Every batch trains one architecture, drawn uniformly. At the end others are drawn, scored with the weights they inherit,
and the best is the answer.

Differs from the paper: candidates are scored with recalibrated batch norm on the validation part, all on the same
batches; the paper scores 1,000 on one batch each and the best 10 again on the whole part.
"""

from functools import partial
from typing import ClassVar, Unpack

from torch.optim import SGD

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.strategies.one_path.uniform import UniformPaths
from lightning_nas.strategies.options import SearchOptions
from lightning_nas.tasks.base import Task


class RandomWS(UniformPaths):
    r"""Random search with shared weights.

    .. math:: a^* = \arg\max_{a \in \{a_1, \dots, a_n\}} \mathrm{ACC}(a, w^*), \qquad
              w^* = \arg\min_w \mathbb{E}_{a \sim U}\big[L_{train}(a, w)\big]

    Every batch trains one uniformly drawn architecture; at the end n others are scored with inherited weights.

    Source: Li and Talwalkar, UAI 2019, arXiv:1902.07638, section 3.2. Deviations: candidates are scored with
    recalibrated batch norm, all on the same batches.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        candidates: number of architectures scored for the answer.
        redraw: draw again where the output does not depend on the input, as in cells of NAS-Bench-201 with "none".
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = RandomWS(ToySpace(), candidates=3)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 8}, 'toy')
    """

    defaults: ClassVar[SearchOptions] = {"weights_optimizer": partial(SGD, lr=0.1, momentum=0.9, weight_decay=1e-4)}

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        candidates: Count = 100,
        redraw: bool = False,
        **options: Unpack[SearchOptions],
    ) -> None:
        super().__init__(space, task, table, redraw=redraw, **RandomWS.defaults | options)
        self.candidates = candidates

    @property
    def answer_rule(self) -> str:
        return f"the best score of {self.candidates} random architectures, with the shared weights at the end"

    def choose(self) -> Architecture:
        generator = self.generator("answer")
        drawn = dict.fromkeys(
            self.space.canonical(self.kept(self.sample(generator), generator)) for _ in range(self.candidates)
        )
        self.scored = {architecture: self.score(architecture) for architecture in drawn}
        return max(self.scored, key=lambda architecture: self.scored[architecture])
