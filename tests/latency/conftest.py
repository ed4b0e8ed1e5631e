import os
from pathlib import Path

import pytest
from torch.onnx._internal.exporter import _registration

from lightning_nas.latency.sources import Macs
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.chains.fbnet import FBNetSpace


@pytest.fixture(scope="session")
def space() -> FBNetSpace:
    return FBNetSpace(
        "toy", image_size=8, in_channels=1, num_classes=10, stem=(8, 1), stages=[(8, 2, 1), (16, 1, 2)], head=16
    )


@pytest.fixture(scope="session")
def table(space: FBNetSpace) -> LatencyTable:
    return Macs()(space)


@pytest.fixture(scope="session")
def data() -> Path:
    folder = os.environ.get("LIGHTNING_NAS_DATA")
    if not folder or not Path(folder, "fbnet_hwnas_lut.json").exists():
        pytest.skip("needs the published tables: LIGHTNING_NAS_DATA=FOLDER")
    return Path(folder)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second less for each ONNX file: torch reads its operators once."""
    pytest.importorskip("onnxscript")
    made = _registration.ONNXRegistry.from_torchlib()
    monkeypatch.setattr(_registration.ONNXRegistry, "from_torchlib", lambda *_, **__: made)
