"""Retraining from the weights of the search."""

import re
from pathlib import Path

import pytest
import torch
from tables import write_table
from torch import nn

import lightning_nas as ln
from lightning_nas.errors import NasError
from lightning_nas.training.checkpoint import load_checked

SPACE = {
    "image_size": 8,
    "in_channels": 1,
    "num_classes": 10,
    "stem": (4, 2),
    "stages": ((4, 1, 1), (8, 1, 1)),
    "head": 8,
}
SHORT = {"max_epochs": 1, "limit_train_batches": 3, "limit_val_batches": 1}
QUIET = {"latency_table": "none", "callbacks": "none", "logger": "none", "trainer": SHORT}
STILL = {"from": "inherited", "epochs": 1, "optimizer": {"lr": 0.0, "weight_decay": 0.0}}


def run(folder: Path, strategy: str = "random_ws", **more: object) -> ln.Run:
    settings = {**QUIET, "retrain": STILL, **more}
    space = settings.pop("space", None) or ln.FBNetSpace(**SPACE)
    return ln.Run(folder, space=space, strategy=strategy, **settings)


def test_the_network_begins_with_the_weights_of_the_supernet(tmp_path: Path) -> None:
    made = run(tmp_path)
    answer = made.search()
    state = load_checked(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    supernet = made.space.supernet()
    supernet.load_state_dict({n.removeprefix("supernet."): v for n, v in state.items() if n.startswith("supernet.")})
    expected = dict(made.space.extract(supernet, answer).named_parameters())
    network = made.retrain()  # with a rate of zero
    assert {name for name, _ in network.named_parameters()} == expected.keys()
    for name, value in network.named_parameters():
        assert torch.equal(value, expected[name]), name
    made.report()
    assert made.result["inherited_acc"] == made.figures["inherited_acc"]
    other = next(a for a in made.space.neighbours(answer, torch.Generator()) if a != answer)
    with pytest.raises(NasError, match="of another architecture"):
        run(tmp_path, stages=["retrain"], ckpt_path="last").retrain(other)
    later = run(tmp_path / "later", stages=["retrain"])
    with pytest.raises(NasError, match="there are no weights of a search"):
        later.retrain(answer)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"strategy": "random", "engine": "serial"}, "trains every candidate alone"),
        ({"strategy": "random", "engine": "table", "space": "nasbench201_small"}, "no network has weights"),
        ({"space": "darts_small"}, "another size than was searched"),
        ({"retrain": {**STILL, "from": "search"}}, "retrain.from: got 'search'; legal: 'scratch', 'inherited'"),
        ({"retrain": {**STILL, "form": "inherited"}}, "did you mean 'from'?"),
    ],
)
def test_what_inherits_no_weights_is_refused_before_the_search(
    more: dict[str, object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_NAS_DATA", str(write_table(tmp_path).parent))
    with pytest.raises(NasError, match=re.escape(said)):
        run(tmp_path, **more).search()  # type: ignore[arg-type]
    assert not (tmp_path / "architecture.json").exists()


def test_the_default_is_fresh_weights(tmp_path: Path) -> None:
    made = run(tmp_path, retrain={"epochs": 1, "optimizer": {"lr": 0.0}})
    made.search()
    assert not (tmp_path / "inherited.pt").exists()
    assert "from" not in made.record["retrain"] or made.record["retrain"]["from"] == "scratch"


def test_a_trained_network_of_ones_own_is_cut_without_a_search(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 10))
    space = ln.FromModel(module, (1, 1, 8, 8))
    network = run(tmp_path, space=space, stages=["retrain"]).retrain("smallest")
    assert torch.equal(network[0].weight, module[0].weight[:8])
    assert torch.equal(network[3].weight, module[3].weight[:, : 8 * 64])
