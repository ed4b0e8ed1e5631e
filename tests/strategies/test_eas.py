"""EAS (arXiv:1707.04873): proposals, rewards, the policy gradient."""

import math
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adam

from lightning_nas.errors import NumericalError
from lightning_nas.spaces.block_qnn.space import BlockQNNSpace
from lightning_nas.spaces.eas.space import EASSpace
from lightning_nas.strategies.controllers.eas_actors import Changing, Growing
from lightning_nas.strategies.controllers.eas_policies import Choose, Decisions, drawing, repeating
from lightning_nas.strategies.multi_trial.eas import EAS
from lightning_nas.tasks.classification import Classification
from lightning_nas.tasks.language_modelling import LanguageModelling
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, ToyEngine, TrialStrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import generator, seeded
from lightning_nas.trials.book import Trial
from lightning_nas.trials.engines.base import Engine

SIZES: dict[str, Any] = {"embedding": 4, "hidden": 6}


def make(engine: Engine, seed: int = 0, **options: Any) -> EAS:
    how = {"networks": 4, "changes": 1, "restart_every": 1, "optimizer": partial(Adam, lr=0.01)}
    return EAS(ToySpace(LAYERS), Classification(), engine=engine, seed=seed, **how | SIZES | options)


class TestEas(TrialStrategyCase):
    seeds = 10
    found_at_least = 5

    @pytest.fixture
    def make(self) -> MakeTrials:
        return make

    def test_a_failing_child_has_the_worst_reward_and_does_not_end_the_search(
        self, make: MakeTrials, tmp_path: Path
    ) -> None:
        """The start fails too, and with it most of what differs from it in one decision: here in three."""
        super().test_a_failing_child_has_the_worst_reward_and_does_not_end_the_search(
            partial(make, changes=3), tmp_path
        )


def test_from_one_start_the_controller_learns_what_is_better(tmp_path: Path) -> None:
    """Two changes of three; the mean of the last five episodes beside that of the first."""
    for seed in range(2):
        options: dict[str, Any] = {"seed": seed, "networks": 4, "changes": 2, "trials": 121, "restart_every": None}
        module = EAS(
            ToySpace(3), Classification(), engine=ToyEngine(), optimizer=partial(Adam, lr=0.03), **options, **SIZES
        )
        fit(module, None, tmp_path / str(seed), epochs=1, every=1000)
        worth = [trial.curve[-1] for trial, _ in module.history[1:]]
        assert sum(worth[-20:]) / 20 > sum(worth[:20]) / 20 + 0.1


def small(**options: Any) -> EASSpace:
    sizes = {"image_size": 4, "in_channels": 1, "num_classes": 4, "filters": (2, 4), "units": (4, 8)}
    more = {"kernels": (1, 3), "pools": (2,), "start": (2, 4), "longest": 2, "dropout": (0.0, 0.0)}
    return EASSpace("small", **sizes | more | options)


def growing(space: EASSpace, wider: int = 1, deeper: int = 1) -> Growing:
    with seeded(7, "policy"):
        return Growing(space, wider=wider, deeper=deeper, **SIZES)


def changing(space: Any, changes: int = 1) -> Changing:
    with seeded(7, "policy"):
        return Changing(space, changes=changes, **SIZES)


# -- numbers of the paper and its code ----------------------------------------------------------------------------


@pytest.mark.parametrize(("accuracy", "reward"), [(0.5, 1), (0.9, 6.3137515), (0.95, 12.7062047), (0.96, 15.8945448)])
def test_the_reward_is_the_tangent_of_the_accuracy(accuracy: float, reward: float) -> None:
    module, trial = make(ToyEngine()), partial(Trial, 0, ToySpace(LAYERS).best, {})
    assert module.reward(trial((0.1, accuracy), 1.0, None)) == pytest.approx(reward, abs=5e-8)


def test_rewards_have_a_bound_and_are_not_negative() -> None:
    module, trial = make(ToyEngine(), ceiling=0.99), partial(Trial, 0, ToySpace(LAYERS).best, {})
    assert module.reward(trial((1.0,), 1.0, None)) == pytest.approx(1 / math.tan(0.01 * math.pi / 2))
    assert module.reward(trial((0.0,), 1.0, None)) == 0


def test_on_text_a_better_perplexity_has_a_better_reward() -> None:
    module = make(ToyEngine())
    module.task = LanguageModelling()
    trial = partial(Trial, 0, ToySpace(LAYERS).best, {})
    rewards = [module.reward(trial((perplexity,), 1.0, None)) for perplexity in (200.0, 60.0, 20.0)]
    assert rewards == pytest.approx([80 / 200, 80 / 60, 80 / 20])


def test_an_update_that_is_not_finite_is_told_with_its_batch_and_parameter(tmp_path: Path) -> None:
    module = make(ToyEngine(), optimizer=partial(SGD, lr=math.inf))
    with pytest.raises(NumericalError, match=r"the parameter policy.* is not finite at batch"):
        fit(module, None, tmp_path, epochs=1, every=1000)


def test_the_baseline_moves_before_it_is_subtracted(tmp_path: Path) -> None:
    """From 0 by a mean reward of 2 to 1.9, then by one of 3 to 2.945; what is left of the first is 0.1 for each."""
    module, seen = make(ToyEngine(), networks=2, trials=5, restart_every=None, entropy_weight=0.0), []
    rewards, before = [0.0, 1.0, 3.0, 3.0, 3.0], module.policy.state_dict()
    before = {name: value.clone() for name, value in before.items()}

    class Told(EAS):
        def reward(self, trial: Trial) -> float:
            return rewards[trial.number]

        def _update(self, episode: list[tuple[Trial, float]]) -> None:
            super()._update(episode)
            seen.append(self.baseline)

    module.__class__ = Told
    fit(module, None, tmp_path, epochs=1)
    assert seen == pytest.approx([1.9, 2.945])
    assert any(not torch.equal(value, before[name]) for name, value in module.policy.state_dict().items())


# -- what is decided ----------------------------------------------------------------------------------------------


def test_impossible_decisions_and_masked_options_are_never_taken() -> None:
    logits = torch.tensor([[[2.0, 1.0, 0.5], [9.0, 9.0, 9.0]], [[0.0, 5.0, 0.0], [1.0, 0.0, 0.0]]], requires_grad=True)
    legal = torch.tensor([[[True, False, True], [False] * 3], [[False] * 3, [True, False, False]]])
    decisions = Decisions(2, drawing(generator(0)))
    chosen = decisions.take(logits, legal)
    assert chosen[0, 0] in (0, 2)
    assert (chosen[0, 1], chosen[1, 0], chosen[1, 1]) == (0, 0, 0)
    assert decisions.chosen == [[int(chosen[0, 0])], [0]]
    chance = math.exp(2) / (math.exp(2) + math.exp(0.5))
    expected = math.log(chance if chosen[0, 0] == 0 else 1 - chance)
    assert decisions.log_probabilities.tolist() == pytest.approx([expected, 0.0], abs=1e-6)
    entropy = -chance * math.log(chance) - (1 - chance) * math.log(1 - chance)
    assert decisions.entropies.tolist() == pytest.approx([entropy, 0.0], abs=1e-6)
    (decisions.log_probabilities.sum() + decisions.entropies.sum()).backward()
    gradient = logits.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient[0, 0, 1] == 0
    assert not gradient[~legal.any(-1)].any()


def test_layers_at_their_greatest_width_and_pools_have_no_decision() -> None:
    space = small()
    widest = space.widened(space.widened(space.start, 0), 2)
    policy = growing(space)
    walked = policy([space.start, widest], drawing(generator(1)), [generator(0)] * 2)
    conv, fc = walked.chosen
    assert len(conv) - len(fc) in (2, 1, 3)  # two widths; a block of convolutions has a kernel
    wide = Decisions(1, drawing(generator(0)))
    policy.step(0, [widest], policy.encoder([policy.tokens(widest)]), wide, [])
    assert (wide.chosen, wide.log_probabilities.item(), wide.entropies.item()) == ([[]], 0, 0)


def test_full_blocks_have_no_place_and_a_full_network_stays_as_it_is() -> None:
    space, policy = small(), growing(small(), wider=1, deeper=3)
    seen = set()
    for number in range(40):
        walked = policy([space.start], drawing(generator(number)), [])
        seen.add(len(space.tokens(walked.architectures[0])))
        assert space.can_deepen(walked.architectures[0]) == (0, 0)  # after three steps both blocks are full
    assert seen == {5}


# -- how likely it is ---------------------------------------------------------------------------------------------


def outcomes(space: EASSpace) -> list[list[int]]:
    """All that a wider and a deeper step can decide of the small start network: 2 x 2 x (kernels of conv + fc)."""
    deeper = [[0, 0, 0], [0, 0, 1], [1, 0]]
    assert space.can_deepen(space.start) == (1, 1)
    return [[*wider, *rest] for wider, rest in product(product((0, 1), repeat=2), deeper)]


def repeated(policy: Any, start: Any, chosen: list[list[int]]) -> Any:
    return policy([start] * len(chosen), repeating(chosen), [generator(0)] * len(chosen))


def by_hand(policy: Growing, space: EASSpace, chosen: list[int]) -> Tensor:
    """The probability of one outcome, from the layers' outputs."""
    reading = policy.encoder([space.tokens(space.start)])
    p = policy.widens(reading.states)[0, :, 0].sigmoid()
    first, second, block, place, *kernel = chosen
    chance = (p[0] if first else 1 - p[0]) * (p[2] if second else 1 - p[2])
    network = space.start
    for token, wide in ((0, first), (2, second)):
        network = space.widened(network, token) if wide else network
    memory = policy.encoder([space.tokens(network)]).last
    read = torch.zeros(1, SIZES["embedding"])
    memory = policy.lstm(read, memory)
    chance = chance * policy.heads[0](memory[0]).softmax(-1)[0, block]
    memory = policy.lstm(policy.embeddings[0](torch.tensor([block])), memory)
    assert place == 0  # the only one, whatever its logit
    memory = policy.lstm(policy.embeddings[1](torch.tensor([0])), memory)
    return chance * policy.heads[2](memory[0]).softmax(-1)[0, kernel[0]] if kernel else chance


def test_probabilities_equal_sigmoids_and_softmaxes_and_sum_to_one() -> None:
    space = small()
    policy, every = growing(space), outcomes(small())
    walked = repeated(policy, space.start, every)
    assert walked.chosen == every
    chances = walked.log_probabilities.exp()
    expected = torch.stack([by_hand(policy, space, chosen) for chosen in every])
    torch.testing.assert_close(chances, expected)
    assert chances.sum().item() == pytest.approx(1, abs=1e-5)
    assert len({str(architecture) for architecture in walked.architectures}) == len(every)


def test_what_is_drawn_has_these_probabilities() -> None:
    space, count = small(), 3000
    policy, every = growing(space), outcomes(small())
    with torch.no_grad():
        drawn = policy([space.start] * count, drawing(generator(3)), [])
        chances = repeated(policy, space.start, every).log_probabilities.exp()
    seen = torch.tensor([drawn.chosen.count(chosen) for chosen in every])
    assert int(seen.sum()) == count
    chi_squared = ((seen - count * chances) ** 2 / (count * chances)).sum().item()
    assert chi_squared < 31.3  # 11 degrees of freedom: one in a thousand


@pytest.mark.parametrize("kind", ["growing", "changing"])
def test_the_policy_gradient_is_unbiased_for_every_baseline(kind: str) -> None:
    space: Any = small() if kind == "growing" else ToySpace(2)
    policy: Any = growing(space) if kind == "growing" else changing(space, 2)
    # which of two decisions, then which of the two other options, twice
    every = (
        outcomes(space) if kind == "growing" else [list(each) for each in product((0, 1), (0, 2), (0, 1), (0, 1, 2))]
    )
    start = space.start if kind == "growing" else space.best  # "keep" is the last option
    if kind == "changing":
        every = [chosen for chosen in every if _legal(policy, start, chosen)]
        every += [[a, 1, b, c] for a, b, c in product((0, 1), (0, 1), (0, 1, 2)) if _legal(policy, start, [a, 1, b, c])]
        every = [chosen for n, chosen in enumerate(every) if chosen not in every[:n]]
    walked = repeated(policy, start, every)
    logs, rewards = walked.log_probabilities, torch.rand(len(every), generator=generator(5))
    chances = logs.exp()
    assert chances.sum().item() == pytest.approx(1, abs=1e-5)
    parameters = list(policy.parameters())
    ask = partial(torch.autograd.grad, inputs=parameters, allow_unused=True, materialize_grads=True, retain_graph=True)
    exact = ask((chances * rewards).sum())
    for baseline in (0.0, 2.945):
        estimate = ask((chances.detach() * (rewards - baseline) * logs).sum())
        for ours, theirs in zip(estimate, exact, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
    assert any(gradient.abs().max() > 1e-3 for gradient in exact)


def _legal(policy: Changing, start: Any, chosen: list[int]) -> bool:
    """Whether each option is another than the one there is."""
    options, now = ("blur", "swap", "keep"), list(start.options)
    for place, option in zip(chosen[::2], chosen[1::2], strict=True):
        if now[place] == options[option]:
            return False
        now[place] = options[option]
    return True


def test_an_episode_is_one_step_along_its_gradient(tmp_path: Path) -> None:
    module = make(ToyEngine(), networks=3, trials=4, optimizer=partial(SGD, lr=0.1), entropy_weight=0.01)
    before = [parameter.detach().clone() for parameter in module.policy.parameters()]
    fresh = make(ToyEngine(), networks=3, entropy_weight=0.01).policy
    fit(module, None, tmp_path, epochs=1)
    start, *episode = module.history
    chosen = [trial.info["decisions"] for trial, _ in episode]
    walked = fresh([start[0].architecture] * 3, repeating(chosen), [module.rng("fill", n) for n in (1, 2, 3)])
    assert walked.architectures == [trial.architecture for trial, _ in episode]
    rewards = torch.tensor([reward for _, reward in episode])
    baseline = 0.95 * rewards.mean()
    loss = -((rewards - baseline) / 3 * walked.log_probabilities).sum() - 0.01 * walked.entropies.sum() / 3
    gradients = torch.autograd.grad(loss, list(fresh.parameters()))
    for old, gradient, new in zip(before, gradients, module.policy.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old - 0.1 * gradient, atol=1e-6, rtol=1e-5)


# -- batches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["growing", "changing"])
def test_what_a_network_becomes_does_not_depend_on_the_batch(kind: str) -> None:
    """Of unequal lengths; what was drawn one by one is repeated together, with the same probabilities."""
    if kind == "growing":
        space: Any = small(longest=4, filters=(2, 3, 4))
        policy: Any = growing(space, 2, 2)
        begun = [
            space.start,
            space.deepened(space.deepened(space.start, 0, 0, 3), 1, 0),
            space.deepened(space.start, 1, 0),
        ]
    else:
        space = BlockQNNSpace(image_size=8, in_channels=1, layers=4, blocks=1, channels=[8, 16])
        policy = changing(space, 3)
        begun = space.different(3, generator(2))
    fills = [lambda i=i: generator("fill", i) for i in range(3)]
    one_by_one = [policy([a], drawing(generator(i)), [fills[i]()]) for i, a in enumerate(begun)]
    chosen = [walked.chosen[0] for walked in one_by_one]
    together = policy(begun, repeating(chosen), [fill() for fill in fills])
    assert together.chosen == chosen
    assert together.architectures == [walked.architectures[0] for walked in one_by_one]
    for name in ("log_probabilities", "entropies"):
        expected = torch.cat([getattr(walked, name) for walked in one_by_one])
        torch.testing.assert_close(getattr(together, name), expected)


def test_each_change_is_of_one_decision_to_another_option() -> None:
    policy = changing(ToySpace(LAYERS))
    start = ToySpace(LAYERS).best
    for number in range(20):
        [made] = policy([start], drawing(generator(number)), [generator(0)]).architectures
        assert sum(a != b for a, b in zip(made.options, start.options, strict=True)) == 1


def test_the_start_network_changes_to_the_best_after_restart_every(tmp_path: Path) -> None:
    module = make(ToyEngine(), networks=3, restart_every=2, trials=25)
    fit(module, None, tmp_path, epochs=1)
    for place in range(1, 25, 3):
        known = [reward for _, reward in module.history[: 1 + (place - 1) // 6 * 6]]
        parents = {trial.info["parent"] for trial, _ in module.history[place : place + 3]}
        assert parents == {known.index(max(known))}
        assert {trial.info["episode"] for trial, _ in module.history[place : place + 3]} == {1 + place // 3}


def test_first_the_wider_steps_then_the_deeper_ones() -> None:
    space = small(longest=4, filters=(2, 3, 4))
    policy, order = growing(space, 2, 2), []

    def widest(logs: Tensor, asked: Tensor) -> Tensor:
        order.append(tuple(asked.shape))
        return asked.long() if asked.dim() == 2 else torch.zeros_like(asked, dtype=torch.long)

    choose: Choose = widest
    [made] = policy([space.start], choose, []).architectures
    assert order == [(1, 3)] * 2 + [(1,)] * 6
    assert space.tokens(made) == ("conv-4-3", "conv-4-1", "conv-4-1", "pool", "fc-8")
