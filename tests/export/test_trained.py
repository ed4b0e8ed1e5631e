"""The trained network of a run, read back from its file."""

from __future__ import annotations

import json
import pickle
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim import ASGD

import lightning_nas as ln
from lightning_nas.data.augmented import ImageStep
from lightning_nas.data.preprocessing import Preprocessing
from lightning_nas.data.samples import Part
from lightning_nas.errors import CheckpointError, DataError, InputError, NasError
from lightning_nas.experiment.run import Run
from lightning_nas.export.trained import FILE, Trained
from lightning_nas.testing.toys import ToySpace
from lightning_nas.training.averaging import NonMonotonicAveraging
from lightning_nas.training.checkpoint import load_checked, sealed
from lightning_nas.training.network import NetworkTraining, quiet_trainer


def resealed(path: Path, target: Path, **changes: Any) -> Path:
    """A copy of a trained network's file with other entries and a right checksum."""
    torch.save(load_checked(path) | changes, target)
    target.write_bytes(b"".join(sealed(memoryview(target.read_bytes()))))
    return target


def test_one_line_gives_the_network_that_was_trained(finished: Run, folder: Path) -> None:
    network = ln.load(folder)
    x = finished.space.example(4, torch.Generator().manual_seed(0))
    assert finished._network is not None
    assert torch.equal(network(x), finished._network.eval()(x))
    assert not network.training
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in network.parameters())


def test_the_loaded_network_has_the_reported_accuracy_to_the_digit(folder: Path) -> None:
    data = ln.Digits()
    data.setup()
    reported = json.loads((folder / "result.json").read_text())["test_acc"]
    assert ln.Classification().evaluate(ln.load(folder), data.test_dataloader(), 10) == reported
    assert Trained.load(folder).figures["test_acc"] == reported


def test_the_architecture_file_builds_the_fresh_network(folder: Path) -> None:
    file = folder / "architecture.json"
    network, trained = ln.zoo.network(file), ln.load(folder)
    shapes = [{name: value.shape for name, value in n.state_dict().items()} for n in (network, trained)]
    assert shapes[0] == shapes[1]
    assert ln.zoo.network(str(file), num_classes=3)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert ln.Architecture.load(file).options == ("k3_e1", "k5_e3")


def test_an_architecture_file_of_an_older_version_is_read(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "architecture.json").read_text())
    del content["network"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert ln.Architecture.load(tmp_path / "old.json") == ln.Architecture.load(folder / "architecture.json")
    with pytest.raises(InputError, match="no sizes of the network are in this file"):
        ln.zoo.network(tmp_path / "old.json")


@pytest.mark.parametrize("damage", ["cut", "flipped", "pickle", "json", "weights"])
def test_a_damaged_or_foreign_file_is_refused_in_one_line(folder: Path, tmp_path: Path, damage: str) -> None:
    whole = (folder / FILE).read_bytes()
    flipped = whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]
    contents = {"cut": whole[:-9], "flipped": flipped, "pickle": pickle.dumps(print), "json": b"{}"}
    file = tmp_path / "network.pt"
    file.write_bytes(contents.get(damage, b""))
    if damage == "weights":
        torch.save(ln.load(folder).state_dict(), file)
    with pytest.raises(CheckpointError) as caught:
        ln.load(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "is no trained network"),
        ({"more": 1}, "is no trained network"),
        ({"architecture": {"space": "fbnet"}}, "expected the keys"),
        ({"network": {"space": {"class": "subprocess.Popen", "arguments": {}}, "num_classes": 10}}, "no search space"),
        ({"network": None}, "pass yours"),
        ({"state_dict": {}}, "the network's"),
        ({"state_dict": [1]}, "no tensors"),
        ({"preprocessing": {"kind": "images"}}, "input_shape"),
        ({"figures": [1]}, "figures"),
    ],
)
def test_a_sealed_file_with_other_content_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    file = resealed(folder / FILE, tmp_path / "network.pt", **changes)
    with pytest.raises(NasError, match=said):
        ln.load(file)


def test_an_object_in_a_sealed_file_is_not_unpickled(folder: Path, tmp_path: Path) -> None:
    file = resealed(folder / FILE, tmp_path / "network.pt", figures=nn.Linear(1, 1))
    with pytest.raises(CheckpointError, match="refused"):
        ln.load(file)


def test_a_folder_without_a_trained_network_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the stage retrain writes one"):
        ln.load(tmp_path)
    with pytest.raises(CheckpointError, match="there is no folder"):
        ln.load(tmp_path / "nothing")


@pytest.mark.parametrize("stage", ["", "retrain"])
def test_a_run_that_was_stopped_says_how_to_go_on(tmp_path: Path, stage: str) -> None:
    (tmp_path / stage / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"no trained network yet; go on with .* ckpt_path=last"):
        ln.load(tmp_path)


def test_a_space_of_ones_own_is_passed(tmp_path: Path) -> None:
    space = ToySpace()
    network = space.network(space.best).eval()
    data = Preprocessing(kind="own", input_shape=[1, 4, 4], classes=list("abcd"))
    Trained(network, space.best, None, data, {}).save(tmp_path / "network.pt")
    with pytest.raises(InputError, match="is not one of lightning_nas; pass yours"):
        ln.load(tmp_path / "network.pt")
    x = torch.ones(1, 1, 4, 4)
    assert torch.equal(ln.load(tmp_path / "network.pt", space=space)(x), network(x))


def test_averaged_weights_are_those_that_are_saved(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Averaging(NonMonotonicAveraging):
        def __init__(self, patience: int) -> None:
            super().__init__(patience)
            self.losses = [0.0, 0.0]  # so that the first epoch is no improvement

    monkeypatch.setattr("lightning_nas.experiment.retrain.NonMonotonicAveraging", Averaging)
    averaging = partial(ASGD, lr=0.1, lambd=0.0, t0=1e9)
    settings = replace(finished.retraining, epochs=2, optimizer=averaging, scheduler=None, average_after=1)
    run = copy(finished)
    run.folder, run.retraining = tmp_path, settings
    trained = run.retrain(finished.answer)
    last = load_checked(tmp_path / "retrain" / "checkpoints" / "last.ckpt")
    saved = ln.load(tmp_path).state_dict()
    assert all(torch.equal(saved[name], value) for name, value in trained.state_dict().items())
    averages = [entry["ax"] for entry in last["optimizer_states"][0]["state"].values()]
    parameters = [saved[name] for name, _ in trained.named_parameters()]
    assert all(torch.equal(one, other) for one, other in zip(parameters, averages, strict=True))


# -- preprocessing ------------------------------------------------------------------------------------------------


def test_a_picture_of_the_test_set_becomes_its_input(folder: Path, tmp_path: Path) -> None:
    data = ln.Digits()
    data.setup()
    pixels, _ = data._of(searched=False).parts["test"][0]
    Image.fromarray(pixels[0].numpy()).save(tmp_path / "digit.png")
    x, _ = next(iter(data.test_dataloader()))
    found = Trained.load(folder).preprocessing
    assert torch.equal(found.images([tmp_path / "digit.png"])[0], x[0])
    assert json.loads((folder / "retrain" / "preprocessing.json").read_text()) == found.model_dump(mode="json")


def test_pictures_in_folders_become_their_inputs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 4)):
        for number in range(count):
            place = tmp_path / part / ("cat" if number % 2 else "dog")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 31, 3), np.uint8)).save(place / f"{number}.png")
    data = ln.ImageFolder(root=str(tmp_path), image_size=16, batch_size=4, num_workers=0)
    data.setup()
    found = data.preprocessing()
    assert found.classes == ["cat", "dog"]
    x, _ = next(iter(data.test_dataloader()))
    files = [tmp_path / "test" / name for name in ("cat/1.png", "cat/3.png", "dog/0.png", "dog/2.png")]
    assert torch.equal(found.images(files), x)


class Turned(ln.Digits):
    """Digits whose geometry is a person's own."""

    def geometry(self, part: Part) -> tuple[list[ImageStep], list[ImageStep]]:
        training, evaluation = super().geometry(part)
        return training, [*evaluation, lambda image: image.rot90(1, (-2, -1))]


def test_a_class_with_its_own_geometry_says_no_transform() -> None:
    data = Turned()
    data.setup()
    assert (data.preprocessing().kind, data.preprocessing().input_shape) == ("own", [1, 8, 8])


def test_what_is_no_picture_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    found = Trained.load(folder).preprocessing
    for file, said in (("text.png", "cannot identify"), ("nothing.png", "No such file")):
        with pytest.raises(DataError, match=f"{file}.*{said}|{said}.*{file}"):
            found.images([tmp_path / file])
    own = Preprocessing(kind="own", input_shape=[1, 8, 8], classes=[])
    with pytest.raises(DataError, match="loaders of your own"):
        own.images([tmp_path / "nothing.png"])


# -- Lightning ----------------------------------------------------------------------------------------------------


def test_lightning_opens_the_checkpoint_of_the_retraining(finished: Run, folder: Path) -> None:
    module = NetworkTraining.load_from_checkpoint(folder / "retrain" / "checkpoints" / "last.ckpt")
    trained = ln.load(folder)
    x = finished.space.example(4, torch.Generator().manual_seed(0))
    assert torch.equal(module.network.eval()(x), trained(x))
    data = ln.Digits()
    data.setup()
    quiet_trainer(epochs=1, limit_train_batches=2).fit(module, datamodule=data)
    assert not torch.equal(module.network.eval()(x), trained(x))


def test_lightning_opens_no_other_checkpoint(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint of a retraining"):
        NetworkTraining.load_from_checkpoint(folder / FILE)
