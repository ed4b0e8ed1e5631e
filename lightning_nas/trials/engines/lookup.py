"""The engine that reads results from a table of all architectures of a space instead of training."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

from lightning_nas.trials.engines.base import Engine, Job
from lightning_nas.trials.requests import Request, Response
from lightning_nas.truth.tabulated import BENCHMARKS, TabulatedData, TabulatedEpochs, open_table

_ASKED, _OPTION = "engine=table", "engine.path"


class TableEngine(Engine):
    """Look up validation accuracy and training seconds of a table; its test accuracy is only used for the result.

    The table of NAS-Bench-201 has trainings of 12 and of 200 epochs, each with a schedule of its own. A search that
    trains in parts may ask for either; one of 200 epochs after one of 12 takes the seconds of all 200, since that
    training is another. The table of ``tiny`` has one training of 4 epochs, seen after each of them; what goes on from
    an earlier part takes the seconds of the rest.

    Args:
        job: its search space must be that of a table.
        path: file of the table; None for ``nasbench201.npz`` in the folder $LIGHTNING_NAS_DATA, and for the table of
            ``tiny`` that comes with the library.
        dataset: data set of the accuracy; None for the table's usual one: "cifar10" of NAS-Bench-201, which also has
            "cifar100" and "imagenet16"; "tiny" of ``tiny``.
        epochs: length of the trainings that a search sees; None for 12 of NAS-Bench-201, which also has 200, and for 4
            of ``tiny``.

    Raises:
        ConfigError: another search space, a data set or length that its table does not have, or nothing says where the
            table is.
        DataError: the file is missing or is not such a table.
    """

    instant, figure = True, "acc"

    def __init__(
        self,
        job: Job,
        *,
        path: str | None = None,
        dataset: TabulatedData | None = None,
        epochs: TabulatedEpochs | None = None,
    ) -> None:
        table = open_table(job.space(), path, asked=_ASKED, option=_OPTION, instead="engine=local")
        self.lengths, self._one_training = table.lengths, table.one_training
        self._epochs, named = table.long(epochs, table.usual), table.named(dataset)
        self._seen = functools.cache(functools.partial(table.seen, named))
        accuracies, seconds = self._seen(self._epochs)
        results = sorted((options, (accuracy, seconds[options])) for options, accuracy in accuracies.items())
        self.digest = hashlib.sha256(json.dumps(results).encode()).hexdigest()[:16]
        self._ended: list[Response] = []

    @classmethod
    def check(cls, *, path: str | None = None, dataset: str | None = None, **_: Any) -> None:
        served = next((benchmark for benchmark in BENCHMARKS if dataset in benchmark.datasets), BENCHMARKS[0])
        served.find(path, asked=_ASKED, option=_OPTION)

    @property
    def slots(self) -> int:
        return 2**16

    def submit(self, request: Request) -> None:
        accuracies, seconds = self._seen(request.epochs or self._epochs)
        options = request.architecture.options
        figure, taken = accuracies[options], seconds[options]
        if request.after and self._one_training:
            taken -= self._seen(request.after)[1][options]
        self._ended.append(Response(request.trial, request.attempt, "finished", (figure,), taken))

    def finished(self, timeout: float) -> list[Response]:
        del timeout
        ended, self._ended = self._ended, []
        return ended
