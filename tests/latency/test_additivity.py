import networkx as nx
import pytest
import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError, LatencyTableError
from lightning_nas.latency import measurement
from lightning_nas.latency.additivity import additivity
from lightning_nas.latency.device import Clock
from lightning_nas.latency.measure import measure_space
from lightning_nas.latency.table import Conditions, LatencyTable
from lightning_nas.spaces.base import Keys, Operation, SearchSpace
from lightning_nas.spaces.chains.fbnet import FBNetSpace

OVERHEAD_MS = 2.0


class Asleep(Clock):
    """Wall time in which the networks of this file sleep, and no other; nothing takes CPU time."""

    at = 0

    def wall(self) -> int:
        return self.at

    def cpu(self) -> int:
        return 0


class Sleep(nn.Module):
    def __init__(self, milliseconds: float) -> None:
        super().__init__()
        self.milliseconds = milliseconds

    def forward(self, x: Tensor) -> Tensor:
        Asleep.at += int(self.milliseconds * 1e6)
        return x


class SleepSpace(SearchSpace):
    """Networks that sleep for what their operations sleep, and OVERHEAD_MS more."""

    name = "sleep"
    input_shape = (1, 1, 1)
    num_classes = 2
    decisions = tuple(Decision(f"layer_{i}", ("1", "2", "4")) for i in range(3))

    def network(self, architecture: Architecture, *, num_classes: int | None = None) -> nn.Module:
        return nn.Sequential(Sleep(OVERHEAD_MS), *(Sleep(int(option)) for option in architecture.options))

    def graph(self, architecture: Architecture) -> "nx.DiGraph[str]":
        raise NotImplementedError

    def operations(self) -> dict[str, Operation]:
        return {o: Operation(lambda o=o: Sleep(int(o)), (1, 1, 1)) for o in ("1", "2", "4")}  # type: ignore[misc]

    def cost_keys(self, architecture: Architecture) -> Keys:
        return architecture.options


def test_a_known_overhead_is_found_and_corrects_the_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "Clock", Asleep)
    monkeypatch.setattr(nn, "Conv2d", lambda *_, **__: Sleep(1.0))  # the reference operation
    space = SleepSpace()
    table = measure_space(space, Conditions(min_run_time=1e-3), progress=False)
    assert table.constant == pytest.approx(OVERHEAD_MS, rel=0.01)
    found = additivity(space, table, 5, torch.Generator().manual_seed(1), progress=False)
    errors = [abs(p - m) / m for p, m in zip(found.predicted, found.measured, strict=True)]
    assert found.mean_relative_error == pytest.approx(sum(errors) / 5)
    assert found.mean_relative_error < 0.01
    assert found.sum_error < -0.1
    assert found.constant_ms == table.constant
    assert found.kendall_tau > 0.99
    assert not found.steadiness.steady  # a thread that sleeps looks like one that waits for its turn


def test_a_table_without_conditions_cannot_be_compared(space: FBNetSpace, table: LatencyTable) -> None:
    with pytest.raises(LatencyTableError, match="conditions"):
        additivity(space, table, 2, torch.Generator())


def test_one_sample_cannot_be_ranked(space: FBNetSpace, table: LatencyTable) -> None:
    measured = table.model_copy(update={"conditions": Conditions()})
    with pytest.raises(InputError, match="samples=1"):
        additivity(space, measured, 1, torch.Generator())
