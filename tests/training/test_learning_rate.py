from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD

from lightning_nas.errors import NumericalError
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.training.learning_rate import range_test
from lightning_nas.training.network import NetworkTraining

DATA = ToyData(images=256)
DATA.setup("fit")


def module_of(network: nn.Module) -> NetworkTraining:
    return NetworkTraining(network, Classification(), 4, seed=0, optimizer=partial(SGD, lr=0.1))


def found(module: NetworkTraining) -> tuple[float, list[dict[str, float]]]:
    return range_test(module, lambda trial: DATA.retrain_loader(lambda: trial.position), accelerator="cpu")


def test_the_curve_is_that_of_training_by_hand_and_nothing_is_changed() -> None:
    space = ToySpace()
    torch.manual_seed(0)
    network, by_hand = space.network(space.best), space.network(space.best)
    by_hand.load_state_dict(network.state_dict())
    module = module_of(network)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    rate, curve = found(module)
    assert (rate, curve) == found(module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert len(curve) == 100
    assert rate == min(curve[10:], key=lambda row: row["loss"])["lr"] / 10 > 1e-3

    batches, losses = DATA.retrain_loader(lambda: 0).batches, list[float]()
    optimizer = SGD(by_hand.parameters(), lr=1.0)
    for step in range(100):
        loss = torch.nn.functional.cross_entropy(by_hand(batches[step][0]), batches[step][1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 10 ** (step / 20 - 5)
        optimizer.step()
        losses.append(loss.item())
        weights = 0.9 ** torch.arange(step, -1, -1.0)
        mean = float((weights * torch.tensor(losses)).sum() / weights.sum())
        assert curve[step] == pytest.approx({"lr": 10 ** (step / 20 - 5), "loss": mean}, rel=1e-4)


class Bowl(Classification):
    """A loss whose steps diverge at rates above 2 / 100; 1 at its lowest."""

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return 1 + 50 * output[0].square().sum()


class Constant(nn.Module):
    """The same outputs for every image."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), start))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight.expand(len(x), 4)


def test_it_ends_where_the_loss_diverges() -> None:
    module = NetworkTraining(Constant(1.0), Bowl(), 4, seed=0, optimizer=partial(SGD, lr=0.1))
    rate, curve = found(module)
    assert curve[-2]["lr"] > 0.02
    assert curve[-1]["lr"] < 0.5
    assert curve[-1]["loss"] > 4 * min(row["loss"] for row in curve)
    assert rate < 0.02


@pytest.mark.parametrize(
    ("start", "message"),
    [(1e30, "the range test ended after 0 steps"), (0.0, "the loss falls at none from 1e-05 to 1")],
)
def test_a_loss_that_never_falls_has_no_rate(start: float, message: str) -> None:
    with pytest.raises(NumericalError, match=message):
        found(NetworkTraining(Constant(start), Bowl(), 4, seed=0, optimizer=partial(SGD, lr=0.1)))
