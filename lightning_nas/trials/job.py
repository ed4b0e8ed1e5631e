"""From plain JSON to a worker: what every process that trains children does first."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from lightning_nas.cli.config.kinds import is_entry
from lightning_nas.cli.config.plain import join, trusted_modules, walk
from lightning_nas.cli.config.targets import resolve
from lightning_nas.data.adapt import adapt
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.base import Job, Worker
from lightning_nas.trials.requests import Request, Response

PARTS = ("dataset", "search_space", "task", "child", "seed", "trusted_modules")
"""Of a run's configuration: what its children are told."""


def make_worker(job: Job) -> Worker:
    """Read the data and build the space, for as many requests as come.

    Args:
        job: the ``PARTS`` of a run's configuration, resolved; their targets are held against the allow-list once more,
            where they are made.

    Raises:
        InputError: a target is not allowed, or the data cannot be read.
    """
    trusted = trusted_modules(job)
    for key, value in walk(job):
        if is_entry(value):
            resolve(value["_target_"], join(key, "_target_"), trusted)
    data = adapt(_made(job["dataset"]), seed=job["seed"])
    data.setup("fit")
    space, task, child = make_space(job), _made(job["task"]), _made(job["child"])
    assert isinstance(task, Task)
    assert isinstance(child, Child)

    def work(request: Request) -> Response:
        return child.work(request, space, data, task)

    return work


def make_space(job: Job) -> SearchSpace:
    """The search space of a job."""
    space = _made(job["search_space"])
    assert isinstance(space, SearchSpace)
    return space


def _made(node: Any) -> Any:
    return instantiate(OmegaConf.create(node))
