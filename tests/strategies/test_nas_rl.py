"""NAS-RL (arXiv:1611.01578)."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from omegaconf import OmegaConf
from policies import SETTINGS, UNEQUAL, accuracies, average_step, chances, check_gradient, every

from lightning_nas.architecture import Architecture
from lightning_nas.errors import NumericalError
from lightning_nas.functional.reinforce import reinforce_loss
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.nas_rl.cnn import NASRLCNNSpace
from lightning_nas.strategies.controllers.controller import Controller
from lightning_nas.strategies.multi_trial.nas_rl import NASRL
from lightning_nas.tasks.classification import Classification
from lightning_nas.tasks.language_modelling import LanguageModelling
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, ToyEngine, TrialStrategyCase, toy_worth
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import generator
from lightning_nas.trials.book import Trial
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.requests import Response


def make(engine: Engine | None = None, seed: int = 0, *, space: SearchSpace | None = None, **options: Any) -> NASRL:
    settings = SETTINGS | {"children": 2, "replicas": 1, "depth_every": None}
    space = space or ToySpace(LAYERS)
    return NASRL(space, Classification(), engine=engine or ToyEngine(), seed=seed, **settings | options)


class TestNasRl(TrialStrategyCase):
    trials, seeds, found_at_least = 12, 6, 3

    @pytest.fixture
    def make(self) -> MakeTrials:
        return make


class TestReplicas(TrialStrategyCase):
    trials, seeds, found_at_least = 12, 6, 3
    search_options: ClassVar = {"accumulate": 1}  # sixty trials are few updates

    @pytest.fixture
    def make(self) -> MakeTrials:
        return lambda engine, seed=0, **options: make(
            engine, seed, **{"replicas": 3, "accumulate": 2, "in_flight": 6} | options
        )


def trial(architecture: Architecture, *curve: float) -> Trial:
    return Trial(0, architecture, {"replica": 0, "version": 0}, curve, 1.0, None)


def test_an_update_is_on_average_the_gradient_of_the_expected_reward() -> None:
    worth = accuracies(9)

    def searched() -> NASRL:
        module = make(space=ToySpace(), controller=UNEQUAL, children=1).double()
        module._moved, module._counted = 0.1 * 0.37, 1  # a baseline of 0.37; it is to make no difference
        return module

    found = average_step(searched, lambda module, i: trial(every(module.space)[i], worth[i].item()))
    module = searched()
    check_gradient(found, (chances(module) * worth**3).sum(), module)


def test_the_reward_is_the_best_of_the_last_epochs_cubed() -> None:
    best = ToySpace(LAYERS).best
    assert make(last=5).reward(trial(best, 0.99, 0.1, 0.93, 0.2, 0.3, 0.92)) == pytest.approx(0.804357)
    assert make(last=1, exponent=2.0).reward(trial(best, 0.99, 0.5)) == 0.25


def test_on_penn_treebank_the_reward_is_80_over_the_squared_perplexity() -> None:
    recipe = OmegaConf.load(Path(__file__).parents[2] / "conf" / "experiment" / "nas_rl_ptb.yaml")
    task = LanguageModelling(reward_scale=recipe.task.reward_scale)
    how = {name: recipe.strategy[name] for name in ("exponent", "last")}
    module = NASRL(ToySpace(LAYERS), task, engine=ToyEngine(), **SETTINGS | {"replicas": 1, "depth_every": None} | how)
    assert module.reward(trial(ToySpace(LAYERS).best, 300.0, 62.4)) == pytest.approx(0.0205457, abs=5e-8)


def test_a_controller_that_diverged_says_so() -> None:
    module = make()
    with torch.no_grad():
        module.controller.start.fill_(math.inf)
    with pytest.raises(NumericalError, match="probabilities are not finite"):
        module.controller.sample(1, generator(0))


def test_an_update_that_is_not_finite_is_told_with_its_batch_and_parameter(tmp_path: Path) -> None:
    module = make(optimizer=partial(torch.optim.SGD, lr=math.inf))
    with pytest.raises(NumericalError, match=r"the parameter controller.* is not finite at batch"):
        fit(module, None, tmp_path, epochs=1, every=1000)


def test_the_baseline_is_the_moving_average_of_earlier_rewards(tmp_path: Path) -> None:
    class Watched(NASRL):
        def learn(self, trial: Trial, reward: float) -> None:
            super().learn(trial, reward)
            if len(self.history) % 2 == 0:
                told.append({name.removeprefix("controller/"): value for name, value in self.figures.items()})

    told: list[dict[str, float]] = []
    module = make(trials=8)
    module.__class__ = Watched
    fit(module, None, tmp_path, epochs=1, every=1000)
    rewards = [reward for _, reward in module.history]
    for i, figures in enumerate(told):
        weights = [0.9 ** (2 * i - 1 - k) for k in range(2 * i)]  # the youngest counts most
        earlier = sum(w * r for w, r in zip(weights, rewards, strict=False)) / sum(weights) if i else None
        assert figures["reward"] == pytest.approx(sum(rewards[2 * i : 2 * i + 2]) / 2)
        assert figures["baseline"] == pytest.approx(figures["reward"] if earlier is None else earlier)


def test_replicas_update_shared_parameters_from_their_own_copies(tmp_path: Path) -> None:
    """Three replicas of two children, against the parameter server written out."""
    rate, space = 0.5, ToySpace(LAYERS)
    module = make(replicas=3, in_flight=6, trials=24, optimizer=partial(torch.optim.SGD, lr=rate))
    fit(module, None, tmp_path, epochs=1, every=1000)

    servers = [Controller(space, generator(0, "controller"), hidden=16)]  # after 0, 1, 2, ... updates
    pulled, past = dict.fromkeys(range(3), 0), list[float]()
    for update in range(12):  # all take turns
        replica = update % 3
        pair = module.history[2 * update : 2 * update + 2]
        assert [t.info for t, _ in pair] == [{"replica": replica, "version": pulled[replica]}] * 2
        assert update - pulled[replica] == min(update, 2)  # updates of the two others in between
        copy, server = servers[pulled[replica]], Controller(space, generator(0, "controller"), hidden=16)
        rewards = torch.tensor([toy_worth(t.architecture) ** 3 for t, _ in pair])
        weights = torch.tensor([0.9 ** (len(past) - 1 - i) for i in range(len(past))])
        baseline = (weights * torch.tensor(past)).sum() / weights.sum() if past else rewards.mean()
        loss = reinforce_loss(copy.replay([t.architecture for t, _ in pair]).log_probabilities, rewards, baseline)
        steps = torch.autograd.grad(loss, list(copy.parameters()), allow_unused=True)
        with torch.no_grad():
            for new, old, step in zip(server.parameters(), servers[-1].parameters(), steps, strict=True):
                new.copy_(old if step is None else old - rate * step)
        servers.append(server)
        pulled[replica], past = update + 1, past + rewards.tolist()
    for found, expected in zip(module.controller.parameters(), servers[-1].parameters(), strict=True):
        torch.testing.assert_close(found, expected)
    assert module.version == 12


def test_the_entropy_is_that_of_the_decisions_that_were_taken(tmp_path: Path) -> None:
    """A blank controller draws evenly; networks are shallow at first."""
    space = NASRLCNNSpace(image_size=8, in_channels=1, depths=[2, 4, 6])
    blank = partial(Controller, hidden=8, init=1e-6, tanh_constant=None)
    options = {"controller": blank, "trials": 2, "replicas": 1, "depth_every": 10}
    module = make(ToyEngine(worth=lambda _: 0.5), space=space, **options)
    fit(module, None, tmp_path, epochs=1, every=1000)
    expected = []
    for trial, _ in module.history:
        choices = trial.architecture.choices
        taken = [decision for decision in space.decisions[1:] if decision.name in dict(choices)]  # the depth is given
        expected.append(sum(math.log(len(decision.options)) for decision in taken) / len(taken))
        assert len(taken) < len(space.decisions)
    assert module.figures["controller/entropy"] == pytest.approx(sum(expected) / 2, rel=1e-3)


def test_one_replica_is_never_stale(tmp_path: Path) -> None:
    module = make(trials=12, in_flight=4, children=3)
    fit(module, None, tmp_path, epochs=1, every=1000)
    assert [t.info["version"] for t, _ in module.history] == [number // 3 for number in range(12)]
    assert module.figures["controller/staleness"] == 0


def test_accumulated_gradients_of_replicas_are_averaged() -> None:
    def step(*gradients: float) -> tuple[float, int]:
        module = make(accumulate=len(gradients))
        optimizer = torch.optim.SGD(module.controller.parameters(), lr=1.0)
        module.optimizers = lambda: optimizer  # type: ignore[method-assign]
        before = module.controller.start.detach().clone()
        for gradient in gradients:
            assert torch.equal(module.controller.start, before)
            module._send([torch.full_like(p, gradient) for p in module.controller.parameters()])
        return (before - module.controller.start).mean().item(), module.version

    assert step(0.5) == (pytest.approx(0.5), 1)
    assert step(0.1, 0.2, 0.6) == (pytest.approx(0.3), 1)


def test_networks_grow_on_the_papers_schedule() -> None:
    space = NASRLCNNSpace()
    module = make(space=space, depth_every=1600)
    assert [module.depth(n) for n in (0, 1599, 1600, 3200, 12799, 10**6)] == [6, 6, 8, 10, 20, 20]
    assert make(space=space).depth(0) is None
    assert make(depth_every=1600).depth(0) is None  # a space without depths


class Filters(ToyEngine):
    """More filters are better."""

    def finished(self, timeout: float) -> list[Response]:
        options = {request.trial: request.architecture.options for request in self.asked}
        return [
            replace(response, curve=(options[response.trial].count("6") / 9,)) for response in super().finished(timeout)
        ]


def test_a_growing_search_draws_and_learns_at_each_depth(tmp_path: Path) -> None:
    space = NASRLCNNSpace("toy", image_size=8, in_channels=1, depths=[1, 2, 3], strides=[1], filters=[4, 6])
    module = make(Filters(), space=space, depth_every=5, replicas=2, in_flight=4, trials=24)
    start = [p.detach().clone() for p in module.controller.parameters()]
    fit(module, None, tmp_path, epochs=1, every=1000)
    depths = {t.number: t.architecture["depth"] for t, _ in module.history}
    assert depths == {number: str(min(number // 2 * 2 // 5, 2) + 1) for number in range(24)}  # pairs are alike
    assert all(torch.isfinite(p).all() for p in module.controller.parameters())
    changed = [not torch.equal(p, old) for p, old in zip(module.controller.parameters(), start, strict=True)]
    assert sum(changed) > len(changed) / 2
