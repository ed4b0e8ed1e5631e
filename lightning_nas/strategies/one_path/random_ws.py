"""Random search with shared weights (Li, Talwalkar, UAI 2019, arXiv:1902.07638), the baseline of one-shot methods.

Every batch trains one architecture, drawn uniformly. At the end others are drawn, scored with the weights they inherit,
and the best is the answer.

Differs from the paper: candidates are scored with recalibrated batch norm on the validation part, all on the same
batches; the paper scores 1,000 on one batch each and the best 10 again on the whole part.
"""

from typing import Any

from pydantic import PositiveInt

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.strategies.one_path.uniform import UniformPaths
from lightning_nas.tasks.base import Task


class RandomWS(UniformPaths):
    """One random path a batch; the best of ``candidates`` by inherited weights.

    Args:
        space: any space with a supernet.
        task: what the network is for.
        table: cost of every operation, if it is to be shown.
        candidates: architectures drawn for the answer.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        candidates: PositiveInt = 100,
        **options: Any,
    ) -> None:
        super().__init__(space, task, table, **options)
        self.candidates = candidates

    def answer(self) -> Architecture:
        generator = self.generator("answer")
        drawn = dict.fromkeys(self.space.canonical(self.sample(generator)) for _ in range(self.candidates))
        self.scored = {architecture: self.score(architecture) for architecture in drawn}
        return max(self.scored, key=lambda architecture: self.scored[architecture])
