"""Test figures of tasks whose targets are numbers or labels: all together and of each output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from lightning_nas.data.base import SearchData
from lightning_nas.ops.outputs import logits_of
from lightning_nas.tasks.base import Batch, Task

_MOST = 100  # outputs with figures of their own


def figures_of_test(task: Task, network: nn.Module, data: SearchData) -> dict[str, Any]:
    """The figures of ``result.json`` of a network on the test part.

    ``test_NAME`` for each metric of the task, those of :meth:`~lightning_nas.tasks.base.Task.unit_metrics` in the
    targets' own unit; the one named by ``score_name`` is first and comes from the task's ``evaluate``. ``outputs`` has
    the same for each number or label, up to 100, and for labels how many test samples have it (``positives``);
    ``in_units`` names the figures that are in the unit of numbers.

    Args:
        task: with targets that are numbers or labels.
        network: to test.
        data: set up; its test part is read once.
    """
    with _answers(network, data.evaluation_loader("test")) as (watched, outputs, targets):
        score = task.evaluate(network, watched, data.num_classes)
    output, target = torch.cat(outputs), torch.cat(targets)
    figures = {task.score_name: score} | _metrics(task, data, output, target)
    figures[task.score_name] = score
    names = data.preprocessing().classes
    each = [
        {"name": names[t], **_positives(data, target[:, t]), **_metrics(task, data, output, target, t)}
        for t in range(data.num_classes)
    ]
    in_units = {"in_units": [f"test_{name}" for name in task.unit_metrics()]} if data.scale is not None else {}
    return {f"test_{name}": value for name, value in figures.items()} | in_units | {"outputs": each[:_MOST]}


def _metrics(task: Task, data: SearchData, output: Tensor, target: Tensor, only: int | None = None) -> dict[str, float]:
    """All metrics of outputs (N, T) and targets, or those of one of them; numbers come standardised."""
    chosen = slice(None) if only is None else slice(only, only + 1)

    def taken(metrics: MetricCollection, output: Tensor, target: Tensor) -> dict[str, float]:
        metrics.update(output[:, chosen], target[:, chosen])
        return {name: float(value) for name, value in metrics.compute().items()}

    found = taken(task.metrics(output[:, chosen].shape[1], synced=False), output, target)
    if data.scale is not None and len(metrics := task.unit_metrics()):
        found |= taken(metrics.set_dtype(torch.float64), *map(data.scale.restored, (output, target)))
    return found


def _positives(data: SearchData, target: Tensor) -> dict[str, int]:
    return {"positives": int(target.sum())} if data.targets == "labels" else {}


@contextmanager
def _answers(
    network: nn.Module, batches: Iterable[Batch]
) -> Iterator[tuple[Iterator[Batch], list[Tensor], list[Tensor]]]:
    """Batches to be read once, and what the network answers to them with the targets, batch by batch, on the CPU."""
    outputs, targets = list[Tensor](), list[Tensor]()

    def watched() -> Iterator[Batch]:
        for x, y in batches:
            targets.append(y.cpu())
            yield x, y

    handle = network.register_forward_hook(lambda _, __, output: outputs.append(logits_of(output).detach().cpu()))
    try:
        yield watched(), outputs, targets
    finally:
        handle.remove()
