"""The conformance suite of tasks."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from torch import Tensor, nn

from lightning_nas.tasks.base import Batch, Task

_SAMPLES, _WIDTH, _LENGTH = 60, 4, 3  # samples, outputs, words of a window


class _Answers(nn.Module):
    """A network that gives output ``i`` of a table to an input (N, L) whose first column is ``i``."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.outputs[x[:, 0]]


class TaskCase:
    """Conformance suite of a task: subclass it and define the fixture ``task``.

    Targets are drawn of the kind that the task names: 60 samples of 4 classes, numbers, labels, words
    or masks.

    Example:
        >>> class TestMyTask(TaskCase):  # doctest: +SKIP
        ...     @pytest.fixture
        ...     def task(self):
        ...         return MyTask()
    """

    @pytest.fixture
    def task(self) -> Task:
        """The task under test."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'task'")

    @pytest.fixture
    def target(self, task: Task) -> Tensor:
        """Targets of the kind of the task."""
        rng = torch.Generator().manual_seed(0)
        many = (_SAMPLES, _WIDTH)
        if task.targets == "numbers":
            return torch.randn(many, generator=rng)
        if task.targets == "labels":
            return (torch.rand(many, generator=rng) < 0.5).float()
        if task.targets == "masks":
            return torch.randint(_WIDTH, (_SAMPLES, 2, _LENGTH), generator=rng)
        shape = (_SAMPLES,) if task.targets == "classes" else (_SAMPLES, _LENGTH)
        return torch.randint(_WIDTH, shape, generator=rng)

    @pytest.fixture
    def output(self, target: Tensor, task: Task) -> Tensor:
        """Outputs of a network that has learned nothing, (N, 4), of words (N, 3, 4), of masks (N, 4, 2, 3)."""
        shape = (*target.shape, _WIDTH) if task.targets in ("classes", "words") else tuple(target.shape)
        if task.targets == "masks":
            shape = (_SAMPLES, _WIDTH, *target.shape[1:])
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))

    # -- the loss -----------------------------------------------------------------------------------------------

    def test_the_loss_is_one_number_with_a_gradient(self, task: Task, output: Tensor, target: Tensor) -> None:
        output = output.requires_grad_()
        loss = task.loss(output, target)
        assert loss.shape == ()
        assert loss.isfinite()
        (gradient,) = torch.autograd.grad(loss, output)
        assert gradient.isfinite().all()
        assert gradient.any()

    def test_a_lower_loss_is_a_better_figure(self, task: Task, output: Tensor, target: Tensor) -> None:
        before, after = _figure(task, output, target), _figure(task, _learned(task, output, target), target)
        assert task.reward(after) > task.reward(before)

    def test_the_loss_of_a_batch_does_not_grow_with_its_size(self, task: Task, output: Tensor, target: Tensor) -> None:
        twice = task.loss(torch.cat([output, output]), torch.cat([target, target]))
        torch.testing.assert_close(twice, task.loss(output, target))

    def test_imitation_ends_at_the_output_that_is_taught(self, task: Task, output: Tensor) -> None:
        same = output.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(task.imitation_loss(same, output), same)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
        other = output + torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
        assert task.imitation_loss(other, output) > task.imitation_loss(output, output)

    # -- figures ------------------------------------------------------------------------------------------------

    def test_the_score_is_one_of_the_metrics(self, task: Task, output: Tensor, target: Tensor) -> None:
        metrics = task.metrics(_WIDTH, synced=False)
        assert task.score_name in set(metrics)
        metrics.update(output, target)
        for name, value in metrics.compute().items():
            assert torch.as_tensor(value).numel() == 1, name

    def test_metrics_start_anew_each_time(self, task: Task, output: Tensor, target: Tensor) -> None:
        first = _figure(task, output, target)
        _figure(task, _learned(task, output, target), target)
        assert _figure(task, output, target) == first

    @pytest.mark.parametrize("size", [7, 16, 60])
    def test_figures_do_not_depend_on_the_batches(self, task: Task, output: Tensor, target: Tensor, size: int) -> None:
        found = task.evaluate(_Answers(output), _batches(target, size), _WIDTH)
        assert found == pytest.approx(_figure(task, output, target), rel=1e-5, abs=1e-6)

    def test_evaluation_leaves_the_network_as_it_was(self, task: Task, output: Tensor, target: Tensor) -> None:
        network = _Answers(output).train()
        assert task.evaluate(network, _batches(target, 16), _WIDTH) == task.evaluate(
            network, _batches(target, 16), _WIDTH
        )
        assert network.training
        assert network.outputs.grad is None

    def test_scores_and_rewards_are_higher_for_the_better_network(
        self, task: Task, output: Tensor, target: Tensor
    ) -> None:
        networks = [_Answers(output), _Answers(_learned(task, output, target))]
        scores = [task.score(network, _batches(target, 16), _WIDTH) for network in networks]
        rewards = [task.reward(task.evaluate(network, _batches(target, 16), _WIDTH)) for network in networks]
        assert scores[0] < scores[1]
        assert 0 <= rewards[0] < rewards[1]
        assert all(math.isfinite(value) for value in (*scores, *rewards))
        error = task.score_error(scores[0], _SAMPLES)
        assert error is None or error >= 0

    def test_figures_in_the_unit_of_the_targets_are_of_numbers_alone(
        self, task: Task, output: Tensor, target: Tensor
    ) -> None:
        metrics = task.unit_metrics()
        if task.targets != "numbers":
            assert not len(metrics)
        elif len(metrics):
            metrics.set_dtype(torch.float64)
            metrics.update(output.double(), target.double())
            assert all(float(value) == float(value) for value in metrics.compute().values())
            assert not set(metrics) & set(task.metrics(_WIDTH))

    # -- other processes ----------------------------------------------------------------------------------------

    def test_it_can_be_sent_to_another_process(self, task: Task, output: Tensor, target: Tensor) -> None:
        copy = pickle.loads(pickle.dumps(task))  # noqa: S301 - made here
        assert torch.equal(copy.loss(output, target), task.loss(output, target))


def _figure(task: Task, output: Tensor, target: Tensor) -> float:
    """The metric ``score_name`` of all samples at once."""
    metrics = task.metrics(_WIDTH, synced=False)
    metrics.update(output, target)
    return float(metrics.compute()[task.score_name])


def _learned(task: Task, output: Tensor, target: Tensor) -> Tensor:
    """Outputs after 200 steps down the gradient of the loss."""
    learned = output.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([learned], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        task.loss(learned, target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return learned.detach()


def _batches(target: Tensor, size: int) -> list[Batch]:
    """Batches of inputs that hold the number of their sample, and their targets."""
    numbers = torch.arange(_SAMPLES)[:, None].expand(-1, _LENGTH)
    return list(zip(torch.split(numbers, size), torch.split(target, size), strict=True))
