"""ONNX Runtime as a device: the same networks, and a table of its own."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lightning_nas.errors import ConfigError, InputError
from lightning_nas.latency.device import Clock
from lightning_nas.latency.measurement import reached
from lightning_nas.latency.onnx_runtime import OnnxRuntime, onnx_file
from lightning_nas.latency.sources import File, Measured
from lightning_nas.latency.table import Conditions, LatencyTable
from lightning_nas.testing.toys import ToySpace


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(7, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.table(x).mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("words", [False, True])
def test_the_file_computes_what_the_network_does(words: bool) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    space = ToySpace()
    network: nn.Module = Words() if words else space.network(space.best)
    shape, dtype = ((5,), torch.int64) if words else (space.input_shape, torch.float32)
    content, x = onnx_file(network.train(), shape, dtype, 2)
    assert network.training
    assert x.shape[0] == 2
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"input": x.numpy()})
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(found), network.eval()(x), atol=1e-5)


@pytest.mark.usefixtures("quick")
def test_operations_are_measured_in_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    space, file = ToySpace(), tmp_path / "table.json"
    source = Measured(path=str(file), device="onnxruntime", min_run_time=1e-4, networks=0)
    table = source(space)
    assert list(table) == list(space.operations())
    assert all(entry.median > 0 for entry in table.entries.values())
    assert table.device.startswith("ONNX Runtime, ")
    assert table.device == reached(Conditions(device="onnxruntime"))
    assert {"onnxruntime", "torch"} <= set(table.versions)
    assert table.described().endswith(", 1 thread")
    assert table.regression is None
    table.save(file)
    assert File(str(file))(space) == LatencyTable.load(file) == source(space) == table
    assert Measured(str(tmp_path), device="onnxruntime").file(space) != Measured(str(tmp_path)).file(space)


class Growing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(int(x.sum().item()))


def test_what_cannot_be_written_as_onnx_is_named() -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(InputError, match=r"^a Growing cannot be written as ONNX: .*by=networks"):
        onnx_file(Growing(), (2,), torch.float32, 1)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if "onnxruntime" in name else find(name))
    with pytest.raises(
        ConfigError, match=r"^device=onnxruntime needs onnxruntime, .*pip install 'lightning_nas\[export"
    ):
        OnnxRuntime(Conditions(device="onnxruntime"), Clock())
    assert reached(Conditions(device="onnxruntime")) is None
