"""A network of torchvision, or of one's own, searched by the command: from its name to the exported file."""

import functools
import json
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from commands import TINY, Commands
from PIL import Image
from torch import nn

import lightning_nas as ln
from lightning_nas.cli import explain
from lightning_nas.cli.main import main
from lightning_nas.spaces.builders import trusted_code
from lightning_nas.spaces.description import describe
from lightning_nas.spaces.own.built import FromBuilder

MODEL = {"image_size": 8, "patch_size": 4, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
OWN = (
    *("search_space=from_model", "search_space.model._target_=torchvision.models.VisionTransformer"),
    *(f"search_space.model.{key}={value}" for key, value in MODEL.items()),
)
RUN = ("strategy=spos", *OWN, *(text for text in TINY if "search_space" not in text and "candidates" not in text))
RUN = tuple(text for text in RUN if "arch_warmup" not in text)


def _choice(option: str) -> str:
    return f'search_space.rules=[{{match: "*.mlp.0", choices: [keep, {option}]}}]'


RUN += ("strategy.generations=1", "strategy.population=4", "strategy.parents=2", "trainer.max_epochs=2")


def test_a_named_network_goes_from_search_to_export(cli: Commands) -> None:
    folder = cli.folder / "run"
    stages = ("stages=[search,retrain,export]", "export.formats=[safetensors]")
    stages += ("retrain.from=inherited", "retrain.optimizer.lr=0.01")
    linear = "{_target_: torch.nn.Linear, bias: false}"
    layers = f"[keep, {linear}, [{{_target_: torch.nn.LayerNorm}}, {{_target_: torch.nn.Linear}}]]"
    stages += (f'search_space.rules=[{{match: "*", width: true}}, {{match: "*.mlp.0", choices: {layers}}}]',)
    ended = cli.run(*RUN, *stages, f"hydra.run.dir={folder}")
    assert ended.code == 0, ended.err[-2000:]
    result = json.loads((folder / "result.json").read_text())
    assert isinstance(result["kendall_tau"], float)
    assert 0 <= result["inherited_acc"] <= 1
    network = ln.load(folder)  # no space is given
    assert type(network) is torchvision.models.VisionTransformer
    chosen = json.loads((folder / "architecture.json").read_text())["choices"]
    assert chosen["encoder.layers.encoder_layer_0.mlp.0"] in ("keep", "linear", "layernorm_linear")
    assert network.conv_proj.in_channels == 1
    assert sum(p.numel() for p in network.parameters()) == result["params"]
    assert json.loads((folder / "export" / "export.json").read_text())["files"]["model.safetensors"]["difference"] == 0
    fresh = ln.zoo.network(folder / "architecture.json")
    assert fresh.load_state_dict(network.state_dict())
    again = cli.run(*RUN, *stages, f"hydra.run.dir={folder}", "ckpt_path=last")
    assert again.code == 0, again.err[-2000:]
    assert json.loads((folder / "result.json").read_text())["test_acc"] == result["test_acc"]


def test_a_module_of_ones_own_needs_trust(
    cli: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = cli.folder / "picture.png"
    Image.new("L", (8, 8), 100).save(picture)
    (cli.folder / "mine.py").write_text(
        "from torch import nn\n"
        "def net(width, num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(1, width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU(),\n"
        "                         nn.Flatten(), nn.Linear(64 * width, num_classes))\n"
    )
    own = ["search_space=from_model", "search_space.model={_target_: mine.net, _partial_: true, width: 8}"]
    shorter = [text for text in RUN if not text.startswith("search_space")]

    def with_mine() -> None:
        sys.path.insert(0, str(cli.folder))

    more = [*own, "+search_space.model.num_classes=10", "callbacks.rank_check=null"]
    cli.run(*shorter, *more, before=with_mine).refused("'mine.net' is refused", "trusted_modules=[mine]")
    folder = cli.folder / "run"
    ended = cli.run(*shorter, *more, "trusted_modules=[mine]", f"hydra.run.dir={folder}", before=with_mine)
    assert ended.code == 0, ended.err[-2000:]
    with pytest.raises(ln.NasError, match=r"built by 'mine.net', code of your own") as caught:  # it imports no module
        ln.load(folder)
    assert "ln.load(FOLDER, trusted_modules=['mine'])" in str(caught.value)
    told = str(caught.value).partition("space=")[2].rpartition("), with")[0]
    assert told.startswith("FromBuilder(functools.partial(mine.net, width=8, num_classes=10), image_size=8")
    for trusted, said in ((["other"], "'mine.net' is not trusted"), ("mine", r"legal: a list such as \['mine'\]")):
        with pytest.raises(ln.NasError, match=said):
            ln.load(folder, trusted_modules=trusted)
    assert "mine" not in sys.modules
    monkeypatch.syspath_prepend(cli.folder)
    for command in (["export", "formats=[py]"], ["evaluate"], ["predict", str(picture)]):
        name, *rest = command
        assert main([name, str(folder), *rest]) == 2
        assert "trusted_modules=['mine']" in capsys.readouterr().err
        assert main([name, str(folder), *rest, "trusted_modules=[mine]"]) == 0, command
    network = ln.load(folder, trusted_modules=["mine"])
    assert sum(p.numel() for p in network.parameters()) == json.loads((folder / "result.json").read_text())["params"]
    del sys.modules["mine"]
    sizes = {"image_size": 8, "in_channels": 1, "num_classes": 10}
    assert all(f"{key}={value}" in told for key, value in sizes.items())

    def net(width: int, num_classes: int) -> nn.Module:
        layers = [nn.Conv2d(1, width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * width, num_classes))

    network = ln.load(folder, space=FromBuilder(functools.partial(net, width=8, num_classes=10), **sizes))
    assert sum(p.numel() for p in network.parameters()) == json.loads((folder / "result.json").read_text())["params"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("os.system", "'os.system' is not trusted"),
        ("trusty.system", "'trusty.system' is not trusted"),  # is os.system
        ("trusty.os.system", "cannot be imported"),
        ("trusty2.net", "'trusty2.net' is not trusted"),
        ("trusty.nothing", "cannot be imported"),
        ("torch.nn.Sequential", "'torch.nn.Sequential' is not trusted"),
        ("torchvision.models.get_model", "is not trusted"),
    ],
)
def test_no_code_is_called_that_is_not_trusted(
    target: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trusty.py").write_text("import os\nfrom os import system\ndef net(width=3): return width\n")
    (tmp_path / "trusty2.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trusty", raising=False)
    assert trusted_code({"_target_": "trusty.net", "_partial_": True, "width": 4}, ["trusty"])() == 4
    layer = {"_target_": "torch.nn.Conv2d", "kernel_size": 3}
    assert trusted_code([{"choices": ["keep", layer]}], []) == [{"choices": ["keep", layer]}]
    for told in ({"_target_": target}, [{"choices": ["keep", {"a": {"_target_": target, "command": "ls"}}]}]):
        with pytest.raises(ln.NasError, match=said):
            trusted_code(told, ["trusty"])


def test_the_network_of_an_object_is_loaded_with_its_space(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    space = ln.FromModel(net, (1, 1, 8, 8))
    quiet = {"callbacks": "none", "logger": "none", "latency_table": "none"}
    trained = ln.retrain(space.largest, "digits", space, folder=tmp_path / "run", retrain={"epochs": 1}, **quiet)
    with pytest.raises(ln.NasError, match=r"an object in Python.* space=ln.FromModel\(MODULE, EXAMPLE, rules=RULES\)"):
        ln.load(tmp_path / "run")
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(ln.load(tmp_path / "run", space=space)(x), trained.eval()(x))


def test_the_network_of_torchvision_is_loaded_without_its_space(tmp_path: Path) -> None:
    net = torchvision.models.shufflenet_v2_x0_5(num_classes=10)
    net.conv1[0] = nn.Conv2d(1, 24, 3, 2, 1, bias=False)  # type: ignore[operator]
    space = ln.FromModel(net, (1, 1, 8, 8), rules=[{"match": "stage4.*", "width": True}])
    quiet = {"callbacks": "none", "logger": "none", "latency_table": "none"}
    trained = ln.retrain(space.smallest, "digits", space, folder=tmp_path / "run", retrain={"epochs": 1}, **quiet)
    network, x = ln.load(tmp_path / "run"), torch.rand(2, 1, 8, 8)
    assert type(network) is torchvision.models.ShuffleNetV2
    assert torch.equal(network(x), trained.eval()(x))
    assert ln.zoo.network(tmp_path / "run" / "architecture.json").load_state_dict(network.state_dict())


def test_a_changed_network_of_torchvision_needs_its_space() -> None:
    net = torchvision.models.squeezenet1_1(num_classes=10)
    rules = [{"match": "features.12.*", "width": True}]
    assert describe(ln.FromModel(net, (1, 3, 32, 32), rules)) is not None
    net.classifier[2] = nn.ReLU6()
    assert describe(ln.FromModel(net, (1, 3, 32, 32), rules)) is None


def test_trials_build_the_network_in_their_workers(cli: Commands) -> None:
    short = ("strategy=random", "engine=serial", "strategy.trials=2", "stages=[search]", "logger=none")
    ended = cli.run(*short, *OWN, "latency_table=none", f"hydra.run.dir={cli.folder / 'run'}")
    assert ended.code == 0, ended.err[-2000:]
    assert (cli.folder / "run" / "architecture.json").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("search_space.model._target_=os.system", "'os.system' is refused"),
        ("search_space.model._target_=torchvision.models.get_model", "is refused: legal are networks"),
        ("search_space.model._target_=torchvision.models.detection.ssd300_vgg16", "is refused: legal are networks"),
        ("search_space.model.weights=DEFAULT", "nothing is downloaded"),
        ("search_space.model._partial_=false", "_partial_: got False; legal: true"),
        ("search_space.model.mlp_dims=3", "did you mean 'mlp_dim'?"),
        ("search_space.model.norm_layer={_target_: torch.optim.SGD}", "plain values"),
        ("search_space.model.hidden_dim=15", "refuses its arguments"),
        ("search_space.model_weights=/nothing", "cannot read '/nothing'"),
        ("search_space.rules=[{match: foo}]", "rule 1 matches no module"),
        ("search_space.rules=[{resolution: [4]}]", "can only be 8, that of the example: 4: the module's code needs"),
        ("search_space.rules=[{resolution: [28]}]", "resolution 28 is above that of the example; legal: up to 8"),
        (_choice("{_target_: torch.nn.Liner}"), "choices[1]._target_: 'torch.nn.Liner' is refused"),
        (_choice("{_target_: torch.nn.Transformer}"), "legal are layers of torch.nn"),
        (_choice("{a: [{_target_: os.system, command: ls}]}"), "choices[1].a[0]._target_: 'os.system' is refused"),
        (_choice("{_target_: torch.nn.Linear, bais: false}"), "did you mean 'bias'?"),
        (_choice("{_target_: torch.nn.Linear, out_features: 7}"), "linear fits nowhere"),
        (_choice("{_target_: torch.nn.Linear, device: {_target_: torch.nn.ReLU}}"), "plain values"),
        (_choice("{_target_: torch.nn.Linear, _partial_: false}"), "_partial_: got False; legal: true"),
        ('search_space.rules=[{match: "*", width: {_target_: torch.nn.ReLU}}]', "'torch.nn.ReLU' is refused"),
        ("task._target_=torchvision.models.resnet18", "'torchvision.models.resnet18' is refused"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(cli: Commands, override: str, said: str) -> None:
    assert said in cli.run(*RUN, override).refused()


def test_explaining_counts_what_the_networks_have(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    explain.main([*OWN, "dataset=digits"])
    text = capsys.readouterr().out
    model = torchvision.models.VisionTransformer(**MODEL, num_classes=10)
    whole = sum(p.numel() for p in model.parameters()) - 2 * 16 * 4 * 4  # one channel in place of three
    assert "encoder.layers.encoder_layer_0.mlp.0.width: 16 | 24 | 32" in text
    [parameters] = [line for line in text.splitlines() if line.startswith("parameters")]
    assert parameters.endswith(f"{whole:,}")
    times = [float(word) for line in text.splitlines() if line.startswith("milliseconds") for word in line.split()[1:]]
    assert len(times) == 3
    assert min(times) > 0
    for wrong, said in (("search_space.modle=3", "did you mean 'model'?"), ("strategy=fo", "there is no preset 'fo'")):
        with pytest.raises(ln.NasError, match=said) as caught:
            explain.main([*OWN, wrong])
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)
    space = ln.FromModel(nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)), (1, 1, 8, 8))
    said = str(space.explain(dict.fromkeys(space.operations(), 1.0)))
    assert said.splitlines()[-1].split() == ["milliseconds", *3 * ["3.000"]]  # flattening costs nothing


def test_weights_of_a_file_are_what_the_search_begins_with(tmp_path: Path) -> None:
    from lightning_nas.spaces.own.built import FromBuilder

    def built() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 7))

    torch.manual_seed(4)
    model, x = built(), torch.rand(5, 1, 6, 6)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    space = FromBuilder(built, model_weights=str(tmp_path / "w.pt"), input_shape=(1, 6, 6), num_classes=7)
    network = space.extract(space.supernet(), space.largest)
    assert torch.allclose(network(x), model(x.expand(5, 3, 6, 6)), atol=1e-6)  # grey is three equal channels
    torch.save({"state_dict": network.state_dict()}, tmp_path / "grey.pt")
    grey = FromBuilder(built, model_weights=str(tmp_path / "grey.pt"), input_shape=(1, 6, 6), num_classes=7)
    assert torch.equal(grey.extract(grey.supernet(), grey.largest)(x), network(x))
    other = FromBuilder(built, model_weights=str(tmp_path / "w.pt"), input_shape=(1, 6, 6), num_classes=4)
    begun = other.supernet().network
    assert torch.equal(begun[0].weight, network[0].weight)
    assert begun[3].out_features == 4
    with pytest.raises(ln.NasError, match="has the shape"):
        FromBuilder(built, model_weights=str(tmp_path / "grey.pt"), input_shape=(2, 6, 6), num_classes=7)
