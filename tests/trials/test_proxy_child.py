"""Candidates that are scored, or judged by their training losses, by every strategy and engine."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.errors import ConfigError
from lightning_nas.proxies.base import Loss, Proxy
from lightning_nas.proxies.grasp import Grasp
from lightning_nas.proxies.naswot import Naswot
from lightning_nas.proxies.snip import snip
from lightning_nas.strategies.multi_trial.local_search import LocalSearch
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded
from lightning_nas.trials.engines.local import LocalEngine
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.trials.job import ObjectsJob
from lightning_nas.trials.proxy_child import ProxyChild, as_reward, first_images, score_of
from lightning_nas.trials.requests import Request
from lightning_nas.trials.training_losses import TrainingLosses

SPACE, TASK = ToySpace(), Classification()


class Sensitivity(Proxy):
    """SNIP with a sign that shows that the order is kept below 0."""

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return -snip(network, batch, loss)


def data() -> ToyData:
    made = ToyData(304, val_fraction=0.15)
    made.setup("fit")
    return made


def test_a_candidate_is_the_fresh_network_on_the_first_images() -> None:
    given, asked = data(), Request(3, 1, SPACE.best, seed=11)
    [figure] = ProxyChild(proxy=Sensitivity(), images=8).work(asked, SPACE, given, TASK).curve
    with seeded(11, "truth", SPACE.best.key):
        network = SPACE.network(SPACE.best)
    x, y = first_images(given, 8)
    assert len(x) == len(y) == 8
    assert score_of(figure) == pytest.approx(-snip(network, (x, y), F.cross_entropy))


def test_a_batch_may_be_larger_than_that_of_the_data() -> None:
    given = data()
    [(one, _)] = given.calibration_batches(1)
    x, y = first_images(given, len(one) + 3)
    assert len(x) == len(y) == len(one) + 3
    assert x[: len(one)].equal(one)


def test_rewards_keep_the_order_of_scores_and_are_above_that_of_a_failure() -> None:
    scores = [-1e9, -20.0, -20.0 + 1e-9, -1e-6, 0.0, 1e-6, 5.0, 1e9]
    rewards = [as_reward(score) for score in scores]
    assert [score_of(reward) for reward in rewards] == pytest.approx(scores, rel=1e-9)
    assert rewards == sorted(rewards)
    assert len(set(rewards)) == len(scores)
    assert 0 < rewards[0] < rewards[-1] < 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_defined_is_a_failure_that_says_so(value: float) -> None:
    class Undefined(Proxy):
        """Not defined for any network."""

        def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
            return value

    response = ProxyChild(proxy=Undefined()).work(Request(0, 1, SPACE.best, seed=0), SPACE, data(), TASK)
    assert response.status == "failed"
    assert response.reason == f"NumericalError: Undefined of this network is {value}: it is not defined"


def test_a_score_that_a_network_does_not_have_is_a_failure_that_says_so() -> None:
    class Smooth(ToySpace):
        """Networks without ReLU."""

        def network(self, *args: object, **kwargs: object) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(self.input_shape), 4))

    response = ProxyChild(proxy=Naswot()).work(Request(0, 1, SPACE.best, seed=0), Smooth(), data(), TASK)
    assert response.status == "failed"
    assert "no ReLU" in str(response.reason)


def test_every_engine_gives_the_same_search(tmp_path: Path) -> None:
    found = []
    for name, engine in (("serial", SerialEngine), ("local", LocalEngine)):
        job = ObjectsJob(ToyData(304, val_fraction=0.15), SPACE, TASK, ProxyChild(proxy=Grasp(), images=8))
        search = LocalSearch(SPACE, TASK, engine=engine(job), trials=6, in_flight=2)
        fit(search, None, tmp_path / name, epochs=1, every=1000)
        search.engine.close()
        found.append([(trial.architecture, reward) for trial, reward in search.history])
        assert all(reward > 0 for _, reward in search.history)
    assert found[0] == found[1]


def test_training_losses_are_summed_over_epochs() -> None:
    """Losses of a training by hand: the same weights, order and rate, one epoch after the other."""
    asked = Request(0, 1, SPACE.best, seed=5)
    whole = TrainingLosses(epochs=3).work(asked, SPACE, data(), TASK).curve
    sums = [-score_of(reward) for reward in whole]
    losses = [sums[0], sums[1] - sums[0], sums[2] - sums[1]]
    assert all(loss > 0 for loss in losses)
    late = TrainingLosses(epochs=3, warm_up=2).work(asked, SPACE, data(), TASK).curve
    assert late[:2] == (0.5, 0.5)  # nothing counted yet
    assert -score_of(late[2]) == pytest.approx(losses[2])

    given, noted = data(), list[float]()
    short = TrainingLosses(epochs=1, scheduler=None, limit_train_batches=1)
    [first] = short.work(asked, SPACE, given, TASK).curve
    with seeded(5, "truth", SPACE.best.key):
        network = SPACE.network(SPACE.best)
    x, y = given.retrain_loader(lambda: 0, searched=True).batches[0]
    noted.append(F.cross_entropy(network.train()(x), y).item())
    assert -score_of(first) == pytest.approx(noted[0], rel=1e-4)


def test_no_loss_left_to_count_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"child.warm_up=3: no loss of epochs=3 counts"):
        TrainingLosses(epochs=3, warm_up=3)
