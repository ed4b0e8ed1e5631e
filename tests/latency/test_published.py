import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.stats import kendalltau

from lightning_nas.architecture import Architecture
from lightning_nas.errors import LatencyTableError
from lightning_nas.latency.published import HWNASBench, Proxyless
from lightning_nas.spaces.base import Operation
from lightning_nas.spaces.chains.fbnet import OPTIONS, FBNetSpace
from lightning_nas.spaces.chains.proxyless import ProxylessNASSpace

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def hwnas() -> FBNetSpace:
    node = OmegaConf.load(CONF / "search_space" / "fbnet_hwnas.yaml")
    config = OmegaConf.create({"dataset": {"channels": 3, "num_classes": 100}, "search_space": node})
    space = instantiate(config.search_space)
    assert isinstance(space, FBNetSpace)
    return space


def content(space: FBNetSpace) -> dict[str, Any]:
    """A file in HW-NAS-Bench's form, with costs that say where they stand."""
    layers = [
        {"h": row.size, "w": row.size, "cin": row.in_channels, "cout": row.out_channels, "stride": row.stride}
        for row in space.layers
    ]
    first = {layer: i for i, layer in reversed(list(enumerate(space.layers)))}
    costs = [[first[layer] + option / 10 for option in range(9)] for layer in space.layers]
    devices = {"board": {"constant_ms": 1000.0, "layer_op_ms": costs}}
    return {"source": "", "layers": layers, "op_names": list(OPTIONS), "formula": "", "devices": devices}


def written(folder: Path, content: Any) -> str:
    (folder / "lut.json").write_text(json.dumps(content))
    return str(folder / "lut.json")


def test_each_cost_lands_at_its_layer_and_block(hwnas: FBNetSpace, tmp_path: Path) -> None:
    raw = content(hwnas)
    table = HWNASBench(written(tmp_path, raw), "board")(hwnas)
    fixed, matrices = hwnas.cost_matrices(table)
    assert fixed == 1000.0
    assert matrices["layers"].tolist() == raw["devices"]["board"]["layer_op_ms"]
    assert table.unit == "ms"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"op_names": [*OPTIONS[1:], OPTIONS[0]]}, "expected 22 rows"),
        ({"layers": []}, "search_space=fbnet_hwnas"),
        ({"devices": {"board": {"constant_ms": 1.0, "layer_op_ms": [[1.0] * 9] * 21}}}, "expected 22 rows"),
        ({"devices": {"board": {"constant_ms": 1.0, "layer_op_ms": [[1.0] * 8] * 22}}}, "expected 22 rows"),
        ({"devices": {"board": {"constant_ms": -1.0, "layer_op_ms": [[1.0] * 9] * 22}}}, "constant_ms"),
        ({"devices": {"board": {"constant_ms": 1.0, "layer_op_ms": [[i] * 9 for i in range(22)]}}}, "two costs"),
        ({"devices": {"phone": {"constant_ms": 1.0, "layer_op_ms": [[1.0] * 9] * 22}}}, "latency_table.device="),
        ({"_target_": "os.system"}, "_target_"),
    ],
)
def test_a_wrong_table_is_refused(hwnas: FBNetSpace, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(LatencyTableError, match=says) as caught:
        HWNASBench(written(tmp_path, content(hwnas) | change), "board")(hwnas)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 400


def test_another_space_is_refused(hwnas: FBNetSpace, space: FBNetSpace, tmp_path: Path) -> None:
    with pytest.raises(LatencyTableError, match="search_space=fbnet_hwnas"):
        HWNASBench(written(tmp_path, content(hwnas)), "board")(space)


# exact but for float32: the benchmark's own latencies are sums over the blocks it measured
@pytest.mark.parametrize("device", ["raspi4", "pixel3", "eyeriss", "fpga"])
def test_sums_of_the_published_table_are_the_published_latencies(hwnas: FBNetSpace, data: Path, device: str) -> None:
    table = HWNASBench(str(data / "fbnet_hwnas_lut.json"), device)(hwnas)
    measured = np.load(data / "fbnet_help_5000.npz", allow_pickle=False)
    names = [decision.name for decision in hwnas.decisions]
    rows = measured["op_names"][measured["arch"][:500]].tolist()
    architectures = [Architecture(hwnas.name, tuple(zip(names, row, strict=True))) for row in rows]
    predicted = [hwnas.cost(architecture, table) for architecture in architectures]
    truth = measured[f"lat_{device}"][:500]
    assert kendalltau(predicted, truth).statistic > 0.9999
    assert np.abs(predicted / truth - 1).max() < 1e-6


class TwoStep(FBNetSpace):
    """A space with two of ProxylessNAS' operations."""

    STEM = "Conv-input:224x224x3-output:112x112x32"
    HEAD = "Logits-input:7x7x1280-output:1000"

    def operations(self) -> dict[str, Operation]:
        return {key: Operation(torch.nn.Identity, (1,)) for key in (self.STEM, self.HEAD)}

    def cost_keys(self, architecture: Architecture) -> tuple[str, ...]:
        return self.STEM, self.HEAD, self.HEAD


def test_proxyless_costs_are_found_by_their_keys(tmp_path: Path, data: Path, space: FBNetSpace) -> None:
    path, two = str(data / "lut_proxylessnas_pixel1.json"), TwoStep("two", image_size=32)
    table = Proxyless(path)(two)
    assert table.unit == "ms"
    assert two.cost(two.sample(torch.Generator()), table) == pytest.approx(4.083756 + 2 * 0.309642)
    with pytest.raises(LatencyTableError, match="lacks"):
        Proxyless(path)(space)


def test_the_proxyless_table_covers_the_proxyless_space(data: Path) -> None:
    path, space = data / "lut_proxylessnas_pixel1.json", ProxylessNASSpace()
    table = Proxyless(str(path))(space)
    entries = json.loads(path.read_text())["entries"]
    first_blocks = [key for key in entries if "expand:1-" in key and "kernel:3-" not in key]  # not in the paper's space
    assert sorted(entries[key] for key in entries if key not in first_blocks) == sorted(table.values())
    assert table[space.blocks[0].keys("k5_e3")[0]] == pytest.approx(7.51911, abs=1e-5)
    choices = {d.name: "zero" if "zero" in d.options else "k3_e3" for d in space.decisions}
    fixed, _ = space.cost_matrices(table)
    assert fixed > 4.08376 + 3.08862 + 0.30964
    strided = [entries[key] for key in entries if "expand:3-kernel:3-" in key and key.endswith("idskip:0")]
    assert space.cost(space.validate(choices), table) == pytest.approx(fixed + sum(strided))


@pytest.mark.parametrize("cost", [-1.0, True, "1", None, float("nan")])
def test_wrong_proxyless_costs_are_refused(tmp_path: Path, space: FBNetSpace, cost: Any) -> None:
    entries = dict.fromkeys(space.operations(), cost)
    with pytest.raises(LatencyTableError, match=r"entries|NaN"):
        Proxyless(written(tmp_path, {"source": "", "entries": entries, "count": {}, "var": {}}))(space)
