"""The job of a search, made of Python objects: data, search space, task, and how a child is trained."""

from __future__ import annotations

from lightning_nas.data.base import SearchData
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.trials.engines.base import Job, Worker
from lightning_nas.trials.judge import Judge
from lightning_nas.trials.requests import Request, Response


class ObjectsJob(Job):
    """Train children with these very objects.

    :class:`~lightning_nas.trials.engines.serial.SerialEngine` uses the objects as they are;
    :class:`~lightning_nas.trials.engines.local.LocalEngine` and :class:`~lightning_nas.trials.engines.ray.RayEngine`
    send a pickled copy to other processes, so there every class must be importable from a module.

    Args:
        data: for training and for the figure on the validation part; ``setup("fit")`` is called when a worker is made.
        space: the search space.
        task: loss and figure of merit.
        child: how each child is trained, or scored without a training.

    Raises:
        ConfigError: the child cannot judge networks of this space.

    Example:
        >>> from lightning_nas.tasks.classification import Classification
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.trials.child import Child
        >>> ObjectsJob(ToyData(), ToySpace(), Classification(), Child(epochs=1)).space().name
        'toy'
    """

    def __init__(self, data: SearchData, space: SearchSpace, task: Task, child: Judge) -> None:
        child.check(space.input_dtype.is_floating_point)
        self._data, self._space, self._task, self._child = data, space, task, child

    def space(self) -> SearchSpace:
        return self._space

    def worker(self) -> Worker:
        self._data.expect(self._task.targets)
        self._data.setup("fit")

        def work(request: Request) -> Response:
            return self._child.work(request, self._space, self._data, self._task)

        return work
