import time

import pytest
import torch
from torch import Tensor, nn

from lightning_nas.errors import InputError
from lightning_nas.latency.measure import measure, measure_space
from lightning_nas.latency.table import Conditions
from lightning_nas.spaces.chains.fbnet import FBNetSpace


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
    assert 4.0 <= timing.median_ms < 12.0
    assert 0 <= timing.iqr_ms < 8.0


def test_the_median_forgets_a_burst() -> None:
    class Burst(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Burst.calls += 1
            time.sleep(0.05 if Burst.calls in (20, 21, 22) else 0.002)
            return x

    assert measure(Burst(), (1,), conditions=Conditions(min_run_time=0.01)).median_ms < 6.0


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
