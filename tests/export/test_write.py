"""The files that leave a run compute what its network computes, and nothing else is taken for them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

import lightning_nas as ln
from lightning_nas.cli import presets
from lightning_nas.cli.main import main
from lightning_nas.data.preprocessing import Preprocessing
from lightning_nas.errors import InputError, NumericalError
from lightning_nas.experiment.folder import forget
from lightning_nas.experiment.run import Run
from lightning_nas.export import formats as written_formats
from lightning_nas.export.card import model_card
from lightning_nas.export.formats import Exported, Source
from lightning_nas.export.names import FILES, USUAL, missing
from lightning_nas.export.source import network_code, network_file
from lightning_nas.export.trained import Trained
from lightning_nas.export.write import export_network, export_trained
from lightning_nas.ops.recurrent import BatchStatistics
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.testing.toys import ToySpace

THERE = [name for name in USUAL if missing(name) is None]
SMALL = [name for name in presets.names("search_space") if name.endswith("_small")]
APART = """\
import importlib.util, sys, torch
for name in ("lightning_nas", "pytorch_lightning", "torchvision", "numpy"):
    sys.modules[name] = None
for folder in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("network", folder + "/network.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.no_grad():
        y = module.load()(torch.load(folder + "/x.pt", weights_only=True))
    torch.save(y, folder + "/y.pt")
"""


def apart(*folders: Path) -> None:
    """Run ``network.py`` of each folder on ``x.pt``, where torch is all there is."""
    subprocess.run([sys.executable, "-I", "-B", "-c", APART, *map(str, folders)], check=True)


def preset(name: str) -> SearchSpace:
    config = OmegaConf.load(presets.files("search_space")[name])
    config.pop("defaults", None)
    dataset = {"image_size": 32, "channels": 3, "num_classes": 10, "bptt": 5}
    made: SearchSpace = instantiate(OmegaConf.create({"dataset": dataset, "space": config}).space)
    return made.evaluation() if name.endswith("_rnn_small") else made  # else it has statistics of the batch


def with_statistics(network: nn.Module) -> nn.Module:
    """The network in eval mode, with statistics as training leaves them."""
    rng = torch.Generator().manual_seed(0)
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.normal_(generator=rng)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=rng)
    return network.eval()


def drawn(space: SearchSpace) -> tuple[Trained, Tensor]:
    rng = torch.Generator().manual_seed(0)
    architecture = space.sample(rng)
    network, x = with_statistics(space.network(architecture)), space.example(4, rng)
    known = Preprocessing(
        kind="images" if x.is_floating_point() else "text",
        input_shape=list(x.shape[1:]),
        classes=[str(number) for number in range(space.num_classes)],
    )
    return Trained(network, architecture, None, known, {}), x


@pytest.fixture(scope="module")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every usual format of the retrained network."""
    out = tmp_path_factory.mktemp("exported")
    export_network(folder, out=out)
    return out


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def wanted(folder: Path, x: Tensor) -> Tensor:
    with torch.no_grad():
        return ln.load(folder)(x)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formats that write their names, where what is in the files is not the subject."""

    def write(name: str, source: Source) -> Exported:
        for file in FILES[name]:
            (source.folder / file).write_text(name)
        return Exported(source.trained.network, 0.0)

    for name in FILES:
        monkeypatch.setitem(written_formats._MAKERS, name, partial(write, name))


# -- the files ------------------------------------------------------------------------------------------------------


def test_the_record_says_size_latency_and_difference(exported: Path, folder: Path) -> None:
    record = json.loads((exported / "export.json").read_text())
    limits = {"torch": 1e-6, "onnx": 1e-5, "py": 0.0, "safetensors": 0.0}
    assert [said["format"] for said in record["files"].values()] == THERE
    assert list(record["skipped"]) == [name for name in USUAL if name not in THERE]
    for name, said in record["files"].items():
        content = (exported / name).read_bytes()
        assert (said["bytes"], said["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert 0 <= said["difference"] <= limits[said["format"]]
        assert said["latency_ms"] > 0
    assert record["input"] == {"shape": ["batch", 1, 8, 8], "type": "float32"}
    assert record["preprocessing"] == json.loads((folder / "retrain" / "preprocessing.json").read_text())
    assert record["figures"]["test_acc"] == json.loads((folder / "result.json").read_text())["test_acc"]


def test_the_program_takes_any_batch(exported: Path, x: Tensor, wanted: Tensor) -> None:
    files = {"preprocessing.json": ""}
    program = torch.export.load(exported / "network.pt2", extra_files=files)
    assert (program.module()(x) - wanted).abs().max() <= 1e-6
    assert Preprocessing.model_validate_json(files["preprocessing.json"]).mode == "L"


def test_onnx_runtime_takes_any_batch(exported: Path, x: Tensor, wanted: Tensor) -> None:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(exported / "network.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        [logits] = session.run(["logits"], {"input": x[:count].numpy()})
        assert (torch.from_numpy(logits) - wanted[:count]).abs().max() <= 1e-5
    known = session.get_modelmeta().custom_metadata_map["preprocessing"]
    assert Preprocessing.model_validate_json(known).classes == [str(digit) for digit in range(10)]


def test_safetensors_load_into_the_network_of_its_configuration(exported: Path, x: Tensor, wanted: Tensor) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    network = ln.zoo.network(exported / "config.json").eval()
    network.load_state_dict(safetensors.load_file(exported / "model.safetensors"))
    assert torch.equal(network(x), wanted)


def test_the_card_holds_the_figures_and_its_lines_run(
    exported: Path, x: Tensor, wanted: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("safetensors")
    card = (exported / "README.md").read_text()
    assert re.search(r"test accuracy \| [\d.]+% \(95% interval", card)
    assert "| layer_02 | k5_e3 |" in card
    [code] = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    monkeypatch.chdir(exported)
    names: dict[str, Any] = {}
    exec(code, names)  # what a reader copies
    assert torch.equal(names["network"](x), wanted)


def test_the_card_says_what_the_training_began_with(folder: Path) -> None:
    trained = Trained.load(folder)
    assert "rained from scratch" in model_card(trained, {})
    card = model_card(trained, {"inherited_acc": 0.91})
    assert "rained from inherited weights" in card
    assert "| before training | 91.00%" in card


# -- one Python file ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(
    exported: Path, x: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Path, Tensor]]]:
    """A network of every small space as a Python file, and that of the run, in one process without lightning_nas."""
    torch.save(x, exported / "x.pt")
    home, made = tmp_path_factory.mktemp("files"), {}
    for name in SMALL:
        trained, given = drawn(preset(name))
        folder = home / name
        folder.mkdir()
        torch.save(trained.network.state_dict(), folder / "weights.pt")
        digest = hashlib.sha256((folder / "weights.pt").read_bytes()).hexdigest()
        (folder / "network.py").write_text(network_file(trained, given, "weights.pt", digest))
        torch.save(given, folder / "x.pt")
        with torch.no_grad():
            made[name] = (folder, trained.network(given))
    apart(exported, *(folder for folder, _ in made.values()))
    yield made
    shutil.rmtree(home)


@pytest.mark.parametrize("name", SMALL)
def test_a_network_as_one_file_is_equal_to_the_bit(name: str, files: dict[str, tuple[Path, Tensor]]) -> None:
    folder, wanted = files[name]
    assert torch.equal(torch.load(folder / "y.pt", weights_only=True), wanted)
    text = (folder / "network.py").read_text()
    assert max(map(len, text.splitlines())) < 200
    assert not re.search(r"^ +(\w+) = .*\n +return \1$", text, flags=re.MULTILINE)  # a name for nothing


@pytest.mark.usefixtures("files")
def test_the_file_of_a_run_is_equal_and_normalises(exported: Path, folder: Path, wanted: Tensor) -> None:
    assert torch.equal(torch.load(exported / "y.pt", weights_only=True), wanted)
    module = module_of(exported)
    assert "# layer_02: k5_e3\n" in (exported / "network.py").read_text()
    data = ln.Digits()
    data.setup()
    pixels, _ = data._of(searched=False).parts["test"][0]
    assert torch.equal(module.normalised(pixels[None]), next(iter(data.test_dataloader()))[0][:1])
    deep = (pixels[None].int() * 257).to(torch.uint16)
    assert torch.allclose(module.normalised(deep), module.normalised(pixels[None]))
    with pytest.raises(TypeError, match=r"uint8, uint16 or floats, not torch\.int64"):
        module.normalised(pixels[None].long())
    assert module.PREPROCESSING["classes"] == [str(digit) for digit in range(10)]
    assert module.build().state_dict().keys() == ln.load(folder).state_dict().keys()


def module_of(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("network", folder / "network.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("damage", ["cut", "flipped", "pickle", "other"])
def test_the_file_refuses_other_weights(exported: Path, tmp_path: Path, damage: str) -> None:
    shutil.copy(exported / "network.py", tmp_path)
    whole, file = (exported / "network.weights.pt").read_bytes(), tmp_path / "network.weights.pt"
    flipped = whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:]
    file.write_bytes({"cut": whole[:-9], "flipped": flipped, "pickle": pickle.dumps(print)}.get(damage, b""))
    module = module_of(tmp_path)
    if damage == "other":
        torch.save(module.build().state_dict(), file)
    with pytest.raises(ValueError, match="is damaged, or holds other weights"):
        module.load()


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class Unchanged(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Step(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act, self.drop, self.shuffle = act, Unchanged(), nn.Identity()
        self.kept = nn.ModuleList([nn.Identity()])

    def forward(self, x: Tensor) -> Tensor:
        return self.kept[0](self.shuffle(self.drop(self.act(x))))


def test_a_layer_that_blocks_share_is_in_each_of_them() -> None:
    shared = Doubled()
    _, expression = network_code(nn.Sequential(Step(shared), Step(shared)), torch.ones(2, 3))
    assert expression.count("act=Doubled()") == 2


def test_steps_that_change_nothing_are_left_out() -> None:
    classes, expression = network_code(Step(Doubled()), torch.ones(2, 3))
    assert not re.search("drop|shuffle|Unchanged", classes + expression)
    assert "kept=nn.ModuleList([nn.Identity()])" in expression
    assert "return self.kept[0](" in classes


def test_what_depends_on_values_is_refused_in_one_line() -> None:
    class Gated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match="a Gated cannot be written as plain code"):
        network_code(nn.Sequential(Gated()), torch.ones(2, 3))
    with pytest.raises(InputError, match=r"a BatchStatistics cannot be written as plain code: .*size of the batch"):
        network_code(nn.Sequential(BatchStatistics()), torch.ones(2, 3))


class Turned(nn.Module):
    """A network whose layer without bias gets its input in another order of memory, for which torch has two kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.head = nn.Conv2d(1, 9, 3), nn.Linear(9, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.mix(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(mixed.mean(1))  # type: ignore[no-any-return]


def test_weights_of_safetensors_compute_with_the_kernels_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Turned().eval()
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = network.stem(x).flatten(2).transpose(1, 2)
        bare = nn.functional.linear(features, network.mix.weight.detach())
        assert not torch.equal(bare, network.mix(features)), "torch has one kernel: this test shows nothing here"
    known = Preprocessing(kind="own", input_shape=[1, 4, 4], classes=["a", "b", "c"])
    trained = Trained(network, ToySpace().best, {}, known, {})
    exported = written_formats._MAKERS["safetensors"](Source(trained, tmp_path, x, {}))
    assert exported.run is not None
    with torch.no_grad():
        assert torch.equal(exported.run(x), network(x))


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "export takes the folder of a run"),
        (["trusted_modules=[mine]"], "export takes the folder of a run"),
        (["RUN", "RUN"], "export takes formats=[...], out=FOLDER and trusted_modules"),
        (["nowhere"], "there is no folder 'nowhere'"),
        (["RUN", "formats=[onx]"], "got 'onx'; legal: torch, onnx, py, safetensors, executorch"),
        (["RUN", "formats=[]"], "got none; legal: one or more of torch"),
        (["RUN", "formats=['onx', \"py\"]"], "got 'onx'; legal: torch, onnx, py, safetensors, executorch"),
        (["RUN", "formats=[py"], "formats: got '[py'; legal: names in brackets, formats=[A,B]"),
        (["RUN", "formats=[py,,onnx]"], "formats: got '[py,,onnx]'; legal: names in brackets"),
        (["RUN", "trusted_modules=[mine"], "trusted_modules: got '[mine'; legal: names in brackets"),
        (["RUN", "format=py"], "export takes formats=[...], out=FOLDER and trusted_modules"),
        (["RUN", "formats=py", "formats=torch"], "an option is given twice"),
        (["DAMAGED", "formats=py"], "its checksum differs"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_exit_code_2(
    folder: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "retrain").mkdir()
    (tmp_path / "retrain" / "network.pt").write_bytes(pickle.dumps(print))
    places = {"RUN": str(folder), "DAMAGED": str(tmp_path)}
    assert main(["export", *(places.get(argument, argument) for argument in arguments)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (folder / "export").exists()


@pytest.mark.usefixtures("quick")
def test_a_package_that_is_missing_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    absent = {"onnxruntime", "safetensors", "executorch"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name in absent else find(name))
    with pytest.raises(InputError, match=re.escape("executorch needs executorch, not installed here; pip install")):
        export_network(folder, ["executorch"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    record = export_network(folder, out=tmp_path / "out")
    assert [said["format"] for said in record["files"].values()] == ["torch", "py"]
    assert "pip install 'lightning_nas[export]'" in record["skipped"]["onnx"]


def test_a_file_that_computes_something_else_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(source: Source) -> Exported:
        (source.folder / "network.pt2").write_text("a file")
        return Exported(lambda batch: source.trained.network(batch) + 1e-3, 1e-6)

    monkeypatch.setitem(written_formats._MAKERS, "torch", wrong)
    with pytest.raises(NumericalError, match=r"network.pt2' differs from the trained network by"):
        export_trained(drawn(ToySpace())[0], tmp_path, ["torch"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 3], ids=["one input", "a batch"])
def test_a_file_that_computes_nan_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    def wrong(source: Source) -> Exported:
        (source.folder / "network.pt2").write_text("a file")
        return Exported(lambda batch: source.trained.network(batch) + (math.nan if len(batch) == count else 0), 1e-6)

    monkeypatch.setitem(written_formats._MAKERS, "torch", wrong)
    with pytest.raises(NumericalError, match=r"network.pt2' differs from the trained network by inf"):
        export_trained(drawn(ToySpace())[0], tmp_path, ["torch"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_format_that_cannot_hold_the_network_is_left_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(source: Source) -> Exported:
        (source.folder / "network.pt2").write_text("half")
        raise RuntimeError("no such operator\nand a long trace")

    monkeypatch.setitem(written_formats._MAKERS, "torch", failing)
    record = export_network(folder, out=tmp_path)
    assert "torch" not in [said["format"] for said in record["files"].values()]
    assert "cannot be written in this format: 'no such operator'; leave it out" in record["skipped"]["torch"]
    assert not (tmp_path / "network.pt2").exists()
    with pytest.raises(InputError, match="torch: the network cannot be written in this format: 'no such operator'"):
        export_network(folder, ["torch"], tmp_path)


def test_a_program_without_layouts_computes_the_same() -> None:
    trained, x = drawn(preset("fbnet_small"))
    program = torch.export.export(trained.network, (x,), strict=False)
    written_formats.forget_layouts(program)
    with torch.no_grad():
        assert torch.allclose(program.module()(x), trained.network(x), atol=1e-6)
    values = [node.meta.get("val") for node in program.run_decompositions().graph.nodes]
    images = [value for value in values if isinstance(value, Tensor) and value.ndim == 4]
    assert images
    assert all(value.is_contiguous() for value in images)


@pytest.mark.parametrize("name", ["fbnet_small", "nas_rl_cnn_small", "nas_rl_rnn_small"])
def test_executorch_runs_the_network(name: str, tmp_path: Path) -> None:
    pytest.importorskip("executorch.runtime")
    record = export_trained(drawn(preset(name))[0], tmp_path, ["executorch"])
    assert record["files"]["network.pte"]["difference"] <= 1e-5
    assert record["files"]["network.pte"]["backend"] == "xnnpack"


@pytest.mark.usefixtures("quick")
def test_a_second_export_keeps_what_is_still_right(folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["export", str(folder), "formats=[py]", f"out={tmp_path}"]) == 0
    assert re.search(r"network\.py +[\d.]+ MB, difference 0, [\d.]+ ms", capsys.readouterr().out)
    assert export_network(folder, ["torch"], tmp_path)["files"].keys() == {"network.py", "network.pt2"}
    (tmp_path / "network.py").write_text("changed")
    assert export_network(folder, ["torch"], tmp_path)["files"].keys() == {"network.pt2"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", ["gone", "weights", "card", "foreign", "words"])
def test_each_earlier_file_is_judged_with_those_beside_it(folder: Path, tmp_path: Path, damage: str) -> None:
    written = export_network(folder, ["torch", "py", "safetensors"], tmp_path)
    if damage == "gone":
        (tmp_path / "network.py").unlink()
    elif damage in ("foreign", "words"):
        said = written["files"]["network.py"]
        written["files"]["network.py"] = ["torch"] if damage == "foreign" else said | {"difference": "none"}
        (tmp_path / "export.json").write_text(json.dumps(written))
    else:
        (tmp_path / {"weights": "network.weights.pt", "card": "README.md"}[damage]).write_text("changed")
    lost = "model.safetensors" if damage == "card" else "network.py"
    left = export_network(folder, ["onnx"], tmp_path)["files"].keys()
    assert left == {"network.pt2", "network.py", "model.safetensors", "network.onnx"} - {lost}


@pytest.mark.usefixtures("quick")
def test_a_run_exports_itself(finished: Run, folder: Path, tmp_path: Path) -> None:
    run = copy(finished)
    run.folder, run.formats = tmp_path, ["py"]
    with pytest.raises(InputError, match="has no trained network"):
        run.export()
    shutil.copytree(folder / "retrain", tmp_path / "retrain")
    assert run.export()["files"].keys() == {"network.py"}
    forget(tmp_path, ["retrain"], None)
    assert list((tmp_path / "export").iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_space_of_ones_own_is_passed(tmp_path: Path) -> None:
    trained, _ = drawn(ToySpace())
    trained.save(tmp_path / "network.pt")
    with pytest.raises(InputError, match="pass yours"):
        export_network(tmp_path / "network.pt", ["py"])
    record = export_network(tmp_path / "network.pt", ["py"], space=ToySpace())
    assert record["files"]["network.py"]["difference"] == 0
    assert (tmp_path / "export" / "network.py").is_file()
