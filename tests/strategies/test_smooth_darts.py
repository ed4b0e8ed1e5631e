"""SmoothDARTS: weights steps under random and under the worst weights of the options."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import SGD, Adam

from lightning_nas.errors import ConfigError
from lightning_nas.functional.smoothing import Rows, on_simplex, random_rows, worst_rows
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.darts import DARTS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.finding import FindingCase
from lightning_nas.testing.repeating import RepeatingCase
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded


def make_smooth(seed: int = 0, **options: Any) -> DARTS:
    given: dict[str, Any] = {
        **PLAIN_ARCH,
        "weights_optimizer": partial(SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(Adam, lr=0.1, betas=(0.5, 0.999)),
        "calibration_batches": 2,
        "score_batches": 2,
        "perturb": "adversarial",
    }
    with seeded(seed, "supernet"):
        return DARTS(ToySpace(), Classification(), seed=seed, **given | options)


class TestSmoothDarts(RepeatingCase, FindingCase):
    @pytest.fixture
    def make(self) -> Any:
        return make_smooth


def rows_of(seed: int, choices: int = 50) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(choices, 4, generator=draw).softmax(-1),
        "b": torch.randn(3, 2, generator=draw).softmax(-1),
    }


def test_random_rows_are_uniform_in_the_ball_before_they_are_scaled() -> None:
    rows = {"a": torch.full((20_000, 4), 0.25)}
    found = random_rows(rows, 0.1, torch.Generator().manual_seed(0))["a"]
    torch.testing.assert_close(found.sum(-1), torch.ones(20_000))
    noise = (torch.rand(20_000, 4, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.2
    expected = (0.25 + noise) / (1 + noise.sum(-1, keepdim=True))  # no entry leaves [0, 1]
    torch.testing.assert_close(found, expected)
    again = random_rows(rows_of(0), 0.9, torch.Generator().manual_seed(1))
    assert all(bool((r >= 0).all()) for r in again.values())
    for rows_again in again.values():
        torch.testing.assert_close(rows_again.sum(-1), torch.ones(len(rows_again)))


def test_the_worst_rows_of_a_linear_loss_are_the_corner_of_the_ball() -> None:
    half = {"a": torch.tensor([[0.4, 0.6], [0.5, 0.5]], dtype=torch.float64)}
    price = torch.tensor([[1.0, -1.0], [-2.0, 2.0]], dtype=torch.float64)
    for seed in range(5):
        found = worst_rows(half, 0.2, torch.Generator().manual_seed(seed), lambda rows: (rows["a"] * price).sum())
        torch.testing.assert_close(found["a"], torch.tensor([[0.6, 0.4], [0.3, 0.7]], dtype=torch.float64))


def test_the_worst_rows_are_worse_than_random_ones_and_never_better_than_none() -> None:
    price = torch.randn(50, 4, generator=torch.Generator().manual_seed(3))

    def loss(rows: Rows) -> Tensor:
        return ((rows["a"] * price).sum(-1) ** 2).sum() + rows["b"].square().sum()

    for seed in range(5):
        rows, draw = rows_of(seed), partial(torch.Generator().manual_seed, seed)
        worst = float(loss(worst_rows(rows, 0.1, draw(), loss)))
        assert worst > max(float(loss(random_rows(rows, 0.1, torch.Generator().manual_seed(s)))) for s in range(20))

    def tent(rows: Rows) -> Tensor:  # largest at the rows themselves: no step makes it larger
        return -(rows["a"] - rows_of(0)["a"]).abs().sum() - (rows["b"] - rows_of(0)["b"]).abs().sum()

    kept = worst_rows(rows_of(0), 0.1, torch.Generator().manual_seed(0), tent)
    assert all(torch.equal(kept[group], rows) for group, rows in rows_of(0).items())
    torch.testing.assert_close(on_simplex(rows_of(0)["a"]), rows_of(0)["a"])


class Watch(Callback):
    """The gates of weights steps beside the softmax, by epoch."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Tensor, Tensor]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DARTS)
        real = pl_module.task_loss

        def task_loss(batch: Any, gates: Gates) -> Tensor:
            now = pl_module.theta["layers"].detach().softmax(-1)
            self.seen.append((trainer.current_epoch, gates.values["layers"].detach().clone(), now))
            assert pl_module.supernet.training
            return real(batch, gates)

        pl_module.task_loss = task_loss  # type: ignore[method-assign]


@pytest.mark.parametrize("perturb", ["random", "adversarial"])
def test_weights_are_trained_within_a_radius_that_grows(perturb: str, tmp_path: Path) -> None:
    watch = Watch()
    module = make_smooth(perturb=perturb, perturb_radius=0.23)
    fit(module, ToyData(304, val_fraction=0.15), tmp_path, epochs=4, every=1000, callbacks=[watch])
    assert len(watch.seen) == module.weights_steps == 16
    far = [max(float((g - p).abs().max()) for e, g, p in watch.seen if e == epoch) for epoch in range(4)]
    for epoch, distance in enumerate(far):
        radius = 0.03 + 0.2 * epoch / 4
        assert 0.2 * radius < distance < 1.7 * radius, "scaling to the simplex moves rows a little further"
    assert far[3] > 2 * far[0]


def test_other_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"perturb=random needs strategy\.order=first: second looks through other"):
        DARTS(ToySpace(), perturb="random", order="second")
