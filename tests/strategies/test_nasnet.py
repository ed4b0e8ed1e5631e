"""NASNet's search (arXiv:1707.07012)."""

import math
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from policies import SETTINGS, UNEQUAL, accuracies, average_step, chances, check_gradient, every

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.nasnet import NASNet
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, ToyEngine, TrialStrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.trials.book import Trial
from lightning_nas.trials.engines.base import Engine


def make(
    engine: Engine | None = None,
    seed: int = 0,
    *,
    space: SearchSpace | None = None,
    table: LatencyTable | None = None,
    **options: Any,
) -> NASNet:
    settings = SETTINGS | {"children": 4}
    space = space or ToySpace(LAYERS)
    return NASNet(space, Classification(), table, engine=engine or ToyEngine(), seed=seed, **settings | options)


class TestNasnet(TrialStrategyCase):
    trials, seeds, found_at_least = 12, 6, 3
    search_options: ClassVar = {"children": 3}

    @pytest.fixture
    def make(self) -> MakeTrials:
        return make


def trial(architecture: Architecture, accuracy: float, log_probability: float) -> Trial:
    return Trial(0, architecture, {"version": 0, "log_probability": log_probability}, (accuracy,), 1.0, None)


def searched(**options: Any) -> NASNet:
    settings = {"children": 1, "steps": 1, "entropy_weight": 0.0, "controller": UNEQUAL}
    module = make(space=ToySpace(), **settings | options).double()
    module._moved, module._counted = 0.1 * 0.37, 1  # a baseline of 0.37; it is to make no difference
    return module


@pytest.mark.parametrize("update", ["ppo", "reinforce"])
def test_a_step_is_on_average_the_gradient_of_the_expected_reward(update: str) -> None:
    worth, logs = accuracies(9), chances(searched()).log().tolist()
    found = average_step(
        partial(searched, update=update), lambda module, i: trial(every(module.space)[i], worth[i].item(), logs[i])
    )
    module = searched()
    check_gradient(found, (chances(module) * worth).sum(), module)


def test_a_late_step_of_ppo_is_the_gradient_where_the_controller_is_now() -> None:
    """Children are drawn by one controller and learned from by another: the ratio makes up for it."""
    worth, old = accuracies(9), chances(searched())

    def tell(module: NASNet, i: int) -> Trial:
        noise = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in module.controller.parameters():
                parameter += 0.4 * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype)
        return trial(every(module.space)[i], worth[i].item(), old[i].log().item())

    found = average_step(partial(searched, clip=0.999), tell)  # chances are those by which they were drawn
    now = searched()
    tell(now, 0)
    ratios = chances(now) / old
    assert ((ratios > 0.01) & (ratios < 1.99)).all()
    assert (ratios.log().abs() > 0.1).any()
    check_gradient(found, (chances(now) * worth).sum(), now)


def test_a_ratio_outside_the_clip_has_no_gradient() -> None:
    def moved(accuracy: float, ratio: float) -> float:
        module = searched(clip=0.2)
        optimizer = torch.optim.SGD(module.controller.parameters(), lr=1e-3)
        module.optimizers = lambda: optimizer  # type: ignore[method-assign]
        log = chances(module)[0].log().item()
        given = trial(every(module.space)[0], accuracy, log - torch.tensor(ratio).log().item())
        module.history = [(given, accuracy)]
        module.learn(given, accuracy)
        return chances(module)[0].log().item() - log

    assert moved(1.0, 1.5) == 0  # better than 0.37, and already likelier than when it was drawn
    assert moved(0.0, 0.5) == 0
    assert moved(1.0, 0.5) > 0
    assert moved(0.0, 1.5) < 0
    assert moved(1.0, 1.1) > 0 > moved(0.0, 0.9)


def test_the_ratio_is_of_the_architecture_that_a_target_put_in_its_place(tmp_path: Path) -> None:
    space = ToySpace(LAYERS)
    table = LatencyTable.macs(space)
    limit = sorted(space.cost(architecture, table) for architecture in every(space))[3]
    options: dict[str, Any] = {"controller": UNEQUAL, "children": 100, "trials": 12}  # no update
    free, bound = make(**options), make(**options, table=table, target=limit)
    fit(bound, None, tmp_path, epochs=1)
    logs = dict(zip(every(space), chances(free).log().tolist(), strict=True))
    assert sum(map(math.exp, logs.values())) == pytest.approx(1, abs=1e-5)
    own = [free.propose(number).architecture for number in range(12)]
    taken = [trial for trial, _ in bound.history]
    assert sum(trial.architecture != one for trial, one in zip(taken, own, strict=True)) > 3
    for trial in taken:
        assert space.cost(trial.architecture, table) <= limit
        assert trial.info["log_probability"] == pytest.approx(logs[trial.architecture], abs=1e-4)


def test_the_entropy_term_alone_makes_the_controller_less_sure() -> None:
    def entropy(weight: float) -> float:
        module = searched(entropy_weight=weight, children=9)
        optimizer = torch.optim.SGD(module.controller.parameters(), lr=0.1)
        module.optimizers = lambda: optimizer  # type: ignore[method-assign]
        module._moved, module._counted = 0.0, 0  # the baseline is the mean of equal rewards
        for i, log in enumerate(chances(module).log().tolist()):
            module.history.append((trial(every(module.space)[i], 0.5, log), 0.5))
            module.learn(*module.history[-1])
        return torch.special.entr(chances(module).detach()).sum().item()

    assert entropy(0.0) < entropy(0.1) < entropy(0.2)
    assert entropy(0.0) == pytest.approx(torch.special.entr(chances(searched()).detach()).sum().item())


def test_the_ratio_is_to_the_controller_that_drew_the_child(tmp_path: Path) -> None:
    module = make(ToyEngine(2), trials=16, children=4, in_flight=3)
    fit(module, None, tmp_path, epochs=1, every=1000)
    # two more are open when the fourth result comes
    assert [t.info["version"] for t, _ in module.history] == [0] * 6 + [1] * 4 + [2] * 4 + [3] * 2
    assert module.version == 4
    assert module.figures["controller/staleness"] == pytest.approx((1 + 1 + 0 + 0) / 4)
    fresh = make().controller.replay([t.architecture for t, _ in module.history[:6]]).log_probabilities
    told = torch.tensor([t.info["log_probability"] for t, _ in module.history[:6]])
    torch.testing.assert_close(told, fresh.detach())


def test_random_draws_as_random_search_does_and_learns_nothing(tmp_path: Path) -> None:
    module = make(update="random", trials=12, seed=3)
    before = [p.detach().clone() for p in module.controller.parameters()]
    fit(module, None, tmp_path / "ours", epochs=1, every=1000)
    other = RandomSearch(ToySpace(LAYERS), Classification(), engine=ToyEngine(), trials=12, seed=3)
    fit(other, None, tmp_path / "theirs", epochs=1, every=1000)
    assert [t.architecture for t, _ in module.history] == [t.architecture for t, _ in other.history]
    assert all(torch.equal(p, old) for p, old in zip(module.controller.parameters(), before, strict=True))
