"""A task as plain JSON and back."""

from __future__ import annotations

import inspect
from typing import Any

from lightning_nas.errors import InputError, shown
from lightning_nas.tasks.base import Task
from lightning_nas.tasks.classification import Classification
from lightning_nas.tasks.language_modelling import LanguageModelling
from lightning_nas.tasks.multilabel import MultiLabel
from lightning_nas.tasks.regression import Regression
from lightning_nas.tasks.segmentation import Segmentation

_CLASSES: dict[str, type[Task]] = {
    made.__name__: made for made in (Classification, LanguageModelling, MultiLabel, Regression, Segmentation)
}


def describe(task: Task) -> dict[str, Any] | None:
    """The class of a task and the arguments of its constructor; None for a task that is not of this library.

    >>> describe(Classification(label_smoothing=0.1))
    {'class': 'Classification', 'arguments': {'label_smoothing': 0.1}}
    """
    name = type(task).__name__
    if _CLASSES.get(name) is not type(task):
        return None
    names = list(inspect.signature(type(task)).parameters)
    return {"class": name, "arguments": {key: getattr(task, key) for key in names}}


def rebuilt(content: Any, *, where: str = "task") -> Task:
    """Make the task of a description: the inverse of :func:`describe`.

    Raises:
        InputError: not a description of a task of this library; ``where`` opens the message.
    """
    if (
        not isinstance(content, dict)
        or content.keys() != {"class", "arguments"}
        or str(content["class"]) not in _CLASSES
    ):
        raise InputError(f"{where}: {shown(content)} is no task of lightning_nas; legal: {', '.join(_CLASSES)}")
    made, arguments = _CLASSES[content["class"]], content["arguments"]
    legal = inspect.signature(made).parameters
    if not isinstance(arguments, dict) or any(
        key not in legal or not _is_plain(value) for key, value in arguments.items()
    ):
        raise InputError(f"{where}: {shown(arguments)}: {made.__name__} takes the numbers {', '.join(legal)}")
    return made(**arguments)


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, yes or no, nothing, or a list of numbers."""
    if isinstance(value, list):
        return all(type(entry) in (int, float) for entry in value)
    return value is None or type(value) in (int, float, bool)
