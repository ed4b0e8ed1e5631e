"""A space that is searched in one size and retrained in another."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import TINY, Commands

from lightning_nas.architecture import Architecture
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.spaces.darts.space import DARTSSpace

DARTS = (
    *("stages=[retrain]", "architecture=darts_v2", "search_space=darts", "search_space.evaluation=[3,4]"),
    *("retrain=darts_cifar", "retrain.epochs=2", "retrain.batch_size=8", "retrain.label_smoothing=0.1"),
    *("latency_table=macs", "callbacks=none", "logger=none", "trainer.log_every_n_steps=1"),
)


@pytest.fixture
def images(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (120, 32, 32, 3), np.uint8), np.arange(120) % 10
    np.savez(tmp_path / "images.npz", x_train=x[:90], y_train=y[:90], x_test=x[90:], y_test=y[90:])
    return f"dataset.path={tmp_path}/images.npz"


def test_the_evaluation_network_is_reported_without_its_auxiliary(cli: Commands, images: str) -> None:
    folder = cli.folder / "run"
    ended = cli.run(*DARTS, "dataset=npz", images, "dataset.batch_size=8", f"hydra.run.dir={folder}")
    assert ended.code == 0, ended.err[-2000:]
    result = json.loads((folder / "result.json").read_text())
    space = DARTSSpace(cells=3, channels=4, affine=True)
    architecture = Architecture.load(folder / "architecture.json")
    with torch.device("meta"):
        network = space.network(architecture)
        trained = space.network(architecture, auxiliary=True)
    assert (result["params"], result["macs"]) == (count_params(network), count_macs(network, (3, 32, 32)))
    assert result["latency_predicted_ms"] is None
    state = torch.load(folder / "retrain/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert {name.removeprefix("network.") for name in state} == set(trained.state_dict())


def test_paths_are_dropped_by_the_step_or_by_the_epoch_as_asked(cli: Commands, images: str) -> None:
    """In the first epoch none are by the epoch."""

    def trained(name: str, *wishes: str) -> dict[str, torch.Tensor]:
        folder = cli.folder / name
        how = (*DARTS, "retrain.epochs=1", "dataset=npz", images, "dataset.batch_size=8", f"hydra.run.dir={folder}")
        ended = cli.run(*how, *wishes)
        assert ended.code == 0, ended.err[-2000:]
        state: dict[str, torch.Tensor]
        state = torch.load(folder / "retrain/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        return state

    none = trained("none", "retrain.drop_path=0")
    by_epoch = trained("epoch", "retrain.drop_path=0.5", "retrain.drop_path_interval=epoch")
    by_step = trained("step", "retrain.drop_path=0.5", "retrain.drop_path_interval=step")
    assert all(torch.equal(none[name], by_epoch[name]) for name in none)
    assert not all(torch.equal(none[name], by_step[name]) for name in none)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("retrain.auxiliary_weight=0.4", ("retrain.auxiliary_weight=0.4", "fbnet_small", "no auxiliary classifier")),
        ("retrain.drop_path=0.2", ("retrain.drop_path=0.2", "fbnet_small", "legal: 0")),
    ],
)
def test_what_a_network_has_not_is_refused_before_the_search(cli: Commands, wish: str, words: tuple[str, ...]) -> None:
    cli.run(*TINY, wish, f"hydra.run.dir={cli.folder}/run").refused(*words)
    assert not (cli.folder / "run" / "metrics.csv").exists()
