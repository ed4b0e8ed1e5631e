"""The job of a search, made of a configuration: plain content that becomes objects where children are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_nas.cli.config.plain import join, trusted_modules, walk
from lightning_nas.cli.config.targets import resolve
from lightning_nas.data.given import as_search_data
from lightning_nas.kinds import is_entry
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.trials.engines.base import Job, Worker
from lightning_nas.trials.job import ObjectsJob
from lightning_nas.trials.judge import Judge

_PARTS = ("dataset", "search_space", "task", "child", "seed", "trusted_modules")


class ConfiguredJob(Job):
    """Train children with the objects that a configuration describes.

    Args:
        content: a run's configuration as plain, resolved values; only the keys ``dataset``, ``search_space``, ``task``,
            ``child``, ``seed`` and ``trusted_modules`` are kept.

    Attributes:
        content: the keys that were kept. Every ``_target_`` in it is held against the allow-list once more, in the
            process that makes the objects.
    """

    def __init__(self, content: Mapping[Any, Any]) -> None:
        self.content = {name: content[name] for name in _PARTS if name in content}

    def space(self) -> SearchSpace:
        """The search space.

        Raises:
            ConfigError: a target is not allowed.
        """
        self._check_targets()
        space = _made(self.content["search_space"])
        assert isinstance(space, SearchSpace)
        return space

    def worker(self) -> Worker:
        """Read the data and make the other objects.

        Raises:
            ConfigError: a target is not allowed.
            DataError: the data cannot be read.
        """
        self._check_targets()
        data = as_search_data(_made(self.content["dataset"]), self.content["seed"])
        space, task, child = self.space(), _made(self.content["task"]), _made(self.content["child"])
        assert isinstance(task, Task)
        data.expect(task.targets)
        data.setup("fit")
        assert isinstance(child, Judge)
        return ObjectsJob(data, space, task, child).worker()

    def _check_targets(self) -> None:
        trusted = trusted_modules(self.content)
        for key, value in walk(self.content):
            if is_entry(value):
                resolve(value["_target_"], join(key, "_target_"), trusted)


def _made(node: Any) -> Any:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    return instantiate(OmegaConf.create(node))
