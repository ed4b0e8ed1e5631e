import random
import time
from collections.abc import Callable

import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from lightning_nas import processes
from lightning_nas.architecture import Decision
from lightning_nas.errors import ConfigError, InputError, LatencyTableError
from lightning_nas.latency import measure as measure_module
from lightning_nas.latency import torch_device
from lightning_nas.latency.device import Device, Stopwatch, Turn
from lightning_nas.latency.measure import Clock, measure, measure_all, measure_space
from lightning_nas.latency.table import Conditions, LatencyTable, Steadiness
from lightning_nas.latency.whole import spread
from lightning_nas.spaces.base import Operation
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.testing.toys import ToySpace


class Sleep(nn.Module):
    def __init__(self, milliseconds: float) -> None:
        super().__init__()
        self.milliseconds = milliseconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.milliseconds / 1e3)
        return x


class Witness(nn.Module):
    """Writes down under what it is called; the list is shared by its copies."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.seen = Seen()

    def forward(self, x: Tensor) -> Tensor:
        layout = x.is_contiguous(memory_format=torch.channels_last)
        grad = torch.is_grad_enabled()
        self.seen.append((tuple(x.shape), x.dtype, layout, torch.get_num_threads(), self.training, grad))
        assert self.conv.weight.dtype == x.dtype
        return x


class Seen(list[tuple[object, ...]]):
    def __deepcopy__(self, memo: object) -> "Seen":
        return self


def test_a_known_duration_is_measured() -> None:
    timing = measure(Sleep(4.0), (1,), conditions=Conditions(min_run_time=0.01))
    assert 4.0 <= timing.median_ms < 40.0  # on a busy machine a sleeper is woken late
    assert timing.iqr_ms >= 0


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_conditions_hold_and_are_gone_afterwards(layout: str, threads: int) -> None:
    network, before = Witness().train(), torch.get_num_threads()
    conditions = Conditions(threads=threads, batch_size=3, dtype="bfloat16", memory_format=layout, min_run_time=1e-4)
    measure(network, (2, 4, 5), conditions=conditions)
    assert set(network.seen) == {((3, 2, 4, 5), torch.bfloat16, layout == "channels_last", threads, False, False)}
    assert torch.get_num_threads() == before
    assert network.training
    assert network.conv.weight.dtype == torch.float32


def test_each_operation_of_a_space_is_measured_once(space: FBNetSpace) -> None:
    state = torch.get_rng_state()
    table = measure_space(space, Conditions(min_run_time=1e-4), progress=False)
    assert torch.get_rng_state().equal(state)
    assert list(table) == list(space.operations())
    assert all(entry.median > 0 and entry.iqr >= 0 for entry in table.entries.values())
    assert table.check(space).unit == "ms"
    assert table.device
    assert table.versions["torch"] == torch.__version__


def test_costlier_operations_measure_longer() -> None:
    space = FBNetSpace("toy", image_size=32, in_channels=3, num_classes=10, stem=(16, 1), stages=[(16, 1, 1)], head=16)
    table = measure_space(space, Conditions(min_run_time=2e-2), progress=False)
    layer = space.layers[0]
    assert table[layer.key("skip")] < table[layer.key("k3_e1")] < table[layer.key("k5_e6")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(InputError, match="device=cpu"):
        measure(nn.Identity(), (1,), conditions=Conditions(device="cuda"))


# -- a machine that is busy, by a clock of ours -----------------------------------------------------------------------


class Machine(Clock):
    """A clock that only networks move; from time to time other programs slow them down.

    Args:
        busy: of the second at which a pass begins: the factor of its wall time, and whether the thread waited.
    """

    def __init__(self, busy: Callable[[float], tuple[float, bool]] = lambda _: (1.0, False)) -> None:
        self.busy, self.at, self.ran = busy, 0, 0

    def wall(self) -> int:
        return self.at

    def cpu(self) -> int:
        return self.ran

    def spend(self, microseconds: float) -> None:
        factor, waited = self.busy(self.at / 1e9)
        self.at += int(microseconds * 1e3 * factor)
        self.ran += int(microseconds * 1e3 * (1 if waited else factor))


class Timed(nn.Module):
    """Takes that number of microseconds of a machine."""

    def __init__(self, machine: Machine, microseconds: float) -> None:
        super().__init__()
        self.machine, self.microseconds = machine, microseconds

    def __deepcopy__(self, memo: object) -> "Timed":
        return self

    def forward(self, x: Tensor) -> Tensor:
        self.machine.spend(self.microseconds)
        return x


TRUE = [20.0 * 1.05**i for i in range(60)]  # microseconds: each operation 5 % dearer than the one before


def table_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], Steadiness]:
    monkeypatch.setattr(nn, "Conv2d", lambda *_, **__: Timed(machine, 50.0))  # the reference operation
    subjects = [(Timed(machine, microseconds), (1,), torch.float32) for microseconds in TRUE]
    timings, steadiness = measure_all(subjects, Conditions(min_run_time=0.01), None, machine)
    return [timing.median_ms * 1e3 for timing in timings], steadiness


def test_other_work_in_a_third_of_the_time_changes_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    quiet, steady = table_on(Machine(), monkeypatch)
    assert quiet == pytest.approx(TRUE, rel=1e-3)
    assert (steady.steady, steady.rounds, str(steady)) == (True, 9, "steady: entries vary by 0 % (median)")
    bursts = Machine(lambda at: (draw.uniform(1, 12), True) if at % 0.6 < 0.2 else (1.0, False))
    disturbed, _ = table_on(bursts, monkeypatch)
    assert disturbed == pytest.approx(quiet, rel=0.03)
    assert kendalltau(disturbed, quiet).statistic > 0.99


def test_one_busy_stretch_is_measured_again_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    late = Machine(lambda at: (7.0, True) if at < 0.7 else (1.0, False))
    times, steadiness = table_on(late, monkeypatch)
    assert times == pytest.approx(TRUE, rel=1e-3)
    assert steadiness.rounds == 18
    assert steadiness.steady


def test_a_neighbour_that_is_busy_two_thirds_of_the_time_changes_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    slower = Machine(lambda at: (1.4, False) if at % 0.3 < 0.2 else (1.0, False))  # as on half a core of a host
    times, steadiness = table_on(slower, monkeypatch)
    assert times == pytest.approx(TRUE, rel=0.01)
    assert steadiness.steady


def test_one_quick_network_is_measured_for_a_while_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_device, "RUN_TIMES", 50)
    at_first = Machine(lambda at: (1.4, False) if at < 0.4 else (1.0, False))
    monkeypatch.setattr(nn, "Conv2d", lambda *_, **__: Timed(at_first, 50.0))
    conditions = Conditions(min_run_time=0.01)
    [timing], steadiness = measure_all([(Timed(at_first, 50.0), (1,), torch.float32)], conditions, None, at_first)
    assert timing.median_ms == pytest.approx(0.05)
    assert timing.steady
    assert at_first.at / 1e9 > 0.5
    assert steadiness.rounds > 100


def test_a_machine_that_is_always_busy_is_judged_not_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    noisy = table_on(Machine(lambda _: (draw.choice([1.0, 3.0, 9.0, 12.0]), False)), monkeypatch)[1]
    assert not noisy.steady
    shared = table_on(Machine(lambda _: (2.0, True)), monkeypatch)[1]  # half of each pass, always: nothing varies
    assert (shared.steady, shared.spread, shared.waiting) == (False, 0.0, pytest.approx(0.5, abs=0.01))
    assert "other programs had 50 % of the time" in str(shared)


def order_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The order in which four networks are measured."""
    order = []

    class Noted(Timed):
        def forward(self, x: Tensor) -> Tensor:
            order.append(int(self.microseconds))
            return super().forward(x)

    monkeypatch.setattr(nn, "Conv2d", lambda *_, **__: Timed(machine, 50.0))
    subjects = [(Noted(machine, 1000.0 + i), (1,), torch.float32) for i in range(4)]
    measure_all(subjects, Conditions(min_run_time=1e-6), None, machine)
    return order[16:]  # the first choose the number of passes


def test_each_round_has_an_order_of_its_own_and_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [order_on(Machine(), monkeypatch) for _ in range(2)]
    assert seen[0] == seen[1]
    rounds = [tuple(seen[0][start : start + 4]) for start in range(0, 36, 4)]
    assert {frozenset(order) for order in rounds} == {frozenset({1000, 1001, 1002, 1003})}
    assert len(set(rounds)) > 4


def test_a_space_without_operations_has_no_table() -> None:
    class Bare(ToySpace):
        def operations(self) -> dict[str, Operation]:
            return {}

    with pytest.raises(LatencyTableError, match=r"toy lists no operations.*latency_table=none"):
        measure_space(Bare(), Conditions(), progress=False)


class Called(Device):
    """A machine elsewhere: 1 ms to be called, and 2 ms for each parameter."""

    rounds = 3

    def description(self) -> str:
        return "elsewhere"

    def stopwatch(self, network: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype) -> Stopwatch:
        return Elapsed(1e-3 + 2e-3 * sum(p.numel() for p in network.parameters()))


class Elapsed(Stopwatch):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def turn(self) -> Turn:
        return Turn(self.seconds, self.seconds, self.seconds)


def test_a_call_is_counted_once_in_a_network_and_not_in_its_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "open_device", lambda *_: Called())
    space = FBNetSpace(input_shape=(1, 8, 8), num_classes=3, stem=(4, 2), stages=[(4, 1, 1)], head=8)
    table = measure_space(space, Conditions(), progress=False)
    for key, operation in space.operations().items():
        parameters = sum(p.numel() for p in operation.build().parameters())
        assert table[key] == pytest.approx(max(2.0 * parameters, 0.01), rel=1e-4)  # at least 1 % of the 1 ms
    architecture = space.sample(torch.Generator().manual_seed(3))
    parameters = sum(p.numel() for p in space.network(architecture).parameters())
    assert space.cost(architecture, table) + table.constant == pytest.approx(1.0 + 2.0 * parameters, rel=0.01)


def test_many_times_more_threads_than_cores_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 2)
    with pytest.raises(ConfigError, match="threads=33: this machine has 2 cores; legal: at most 32"):
        measure(nn.Identity(), (1,), conditions=Conditions(threads=33))


def test_the_networks_of_a_table_are_spread_from_the_cheapest_on(space: FBNetSpace) -> None:
    macs = LatencyTable.macs(space)
    costs = [space.cost(a, macs) for a in spread(space, 8, torch.Generator().manual_seed(0))]
    cheapest = space.validate({decision.name: "skip" for decision in space.decisions})
    assert costs[-1] == space.cost(cheapest, macs)
    assert sorted(costs[4:], reverse=True) == costs[4:]
    assert min(costs[:4]) > costs[-1]


def test_a_space_of_one_architecture_is_measured_too() -> None:
    space = ToySpace()
    space.decisions = tuple(Decision(d.name, d.options[:1]) for d in space.decisions)
    assert len(set(spread(space, 8, torch.Generator().manual_seed(0)))) == 1
