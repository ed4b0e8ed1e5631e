"""Block-QNN (arXiv:1708.05552)."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.block_qnn.code import parsed
from lightning_nas.spaces.block_qnn.space import BlockQNNSpace
from lightning_nas.strategies.multi_trial.block_qnn import PAPER, BlockQNN, density, steps
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, ToyEngine, TrialStrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import generator
from lightning_nas.trials.book import Proposal, Trial
from lightning_nas.trials.engines.base import Engine

PLAIN = {"macs_weight": 0.0, "density_weight": 0.0}
SHORT = ((1.0, 3), (0.5, 2), (0.1, 1))


def make(engine: Engine, seed: int = 0, **options: Any) -> BlockQNN:
    space = ToySpace(LAYERS)
    how = {"batch": 5, "epsilons": SHORT, "learning_rate": 0.2, "replay": 128} | PLAIN
    return BlockQNN(space, Classification(), Macs()(space), engine=engine, seed=seed, **how | options)


class TestBlockQnn(TrialStrategyCase):
    @pytest.fixture
    def make(self) -> MakeTrials:
        return make


def block_search(**options: Any) -> BlockQNN:
    space = BlockQNNSpace(image_size=8, in_channels=1, layers=4, blocks=1, channels=[8, 16])
    paper: dict[str, Any] = {"batch": 64, "epsilons": PAPER, "replay": 128, "learning_rate": 0.01}
    return BlockQNN(space, Classification(), engine=ToyEngine(), **paper | options)


def test_the_papers_schedule_has_178_batches() -> None:
    module = make(ToyEngine(), epsilons=PAPER, batch=64)
    assert sum(batches for _, batches in PAPER) == 178
    assert [module.epsilon(64 * iteration) for iteration in (0, 94, 95, 101, 102, 177, 400)] == [
        *(1.0, 1.0, 0.9, 0.9, 0.8, 0.1, 0.1)
    ]


def test_a_trajectory_is_learned_from_with_the_worked_numbers() -> None:
    """Three layers, reward 0.9: the last step gets all of it, every other its third and the best of the next state."""
    module = block_search(learning_rate=0.01)
    block = module.space.of_codes(parsed("(1,1,5,0,0) (2,5,0,0,1) (3,7,0,0,0)"))  # type: ignore[attr-defined]
    trajectory = steps(module.space, block)
    module.update(trajectory, 0.9)
    worth = [module.q[state][action] for state, action, _ in trajectory]
    last = 0.99 * 0.5 + 0.01 * 0.9
    second = 0.99 * 0.5 + 0.01 * (0.3 + last)
    first = 0.99 * 0.5 + 0.01 * (0.3 + second)
    assert last == pytest.approx(0.504)
    assert worth == pytest.approx([first, second, last], abs=1e-12)


def test_the_best_of_the_next_state_is_of_what_was_not_tried_too() -> None:
    module = block_search(learning_rate=0.5, shaping=False)
    block = module.space.of_codes(parsed("(1,1,5,0,0) (2,7,0,0,0)"))  # type: ignore[attr-defined]
    trajectory = steps(module.space, block)
    module.update(trajectory, 0.1)
    assert [module.q[s][a] for s, a, _ in trajectory] == pytest.approx([0.5, 0.3])  # 0.5: all others keep the initial


def test_actions_are_whole_layers_of_a_block() -> None:
    module = block_search()
    walked = steps(module.space, module.space.sample(generator(0)))
    assert [len(actions) for _, _, actions in walked[:3]] == [8, 21, 37][: len(walked)]
    assert [state for state, _, _ in walked] == ["start", *(action for _, action, _ in walked[:-1])]


def test_the_reward_is_corrected_as_worked() -> None:
    module = block_search()
    block = module.space.of_codes(parsed("(1,1,5,0,0) (2,5,0,0,1) (3,7,0,0,0)"))  # type: ignore[attr-defined]
    macs = module.space.cost(block, Macs()(module.space))
    expected = (80 - math.log(macs / 1e6) - 8 * math.log(density(module.space, block))) / 100
    assert module.reward(Trial(0, block, {}, (0.5, 0.8), 1.0, None)) == pytest.approx(expected)
    assert density(module.space, block) == 3 / 3  # two nodes and the input; the addition has two edges


def test_the_reward_has_the_worked_number() -> None:
    class Described(ToySpace):
        def cost(self, architecture: Architecture, table: Mapping[str, float]) -> float:
            return 1e6 * math.e

        def graph(self, architecture: Architecture) -> Any:
            return SimpleNamespace(number_of_edges=lambda: 3 * math.e**0.25, number_of_nodes=lambda: 3)

    space = Described(LAYERS)
    module = BlockQNN(space, Classification(), Macs()(space), engine=ToyEngine())
    assert module.reward(Trial(0, space.best, {}, (0.5, 0.8), 1.0, None)) == pytest.approx(0.77)


def test_with_epsilon_0_actions_of_the_largest_worth_are_taken(tmp_path: Path) -> None:
    class Watched(BlockQNN):
        def propose(self, number: int) -> Proposal | None:
            proposal = super().propose(number)
            if proposal is not None and not proposal.info["epsilon"]:
                for state, action, actions in steps(self.space, proposal.architecture):
                    known = self.q.get(state, {})
                    worth = {each: known.get(each, self.initial) for each in actions}
                    taken.append(worth[action] == max(worth.values()) > min(worth.values()))
            return proposal

    taken: list[bool] = []
    module = make(ToyEngine(), epsilons=((1.0, 8), (0.0, 1)), trials=60)
    module.__class__ = Watched
    fit(module, None, tmp_path, epochs=1)
    assert len(taken) == 20 * len(module.space.decisions)
    assert all(taken)


def test_after_each_batch_so_many_trajectories_of_all_are_learned_from(tmp_path: Path) -> None:
    class Watched(BlockQNN):
        def update(self, trajectory: Any, reward: float) -> None:
            learned[-1].append((tuple(action for _, action, _ in trajectory), reward))
            super().update(trajectory, reward)

        def learn(self, trial: Trial, reward: float) -> None:
            learned.append([])
            super().learn(trial, reward)

    found = []
    for _ in range(2):
        learned: list[list[Any]] = []
        module = make(ToyEngine(), replay=3, trials=20)
        module.__class__ = Watched
        fit(module, None, tmp_path / str(len(found)), epochs=1)
        found.append(learned)
    assert found[0] == found[1]
    assert [len(each) for each in learned] == [0, 0, 0, 0, 3] * 4
    known = [
        (tuple(action for _, action, _ in steps(module.space, trial.architecture)), reward)
        for trial, reward in module.history
    ]
    older = 0
    for batch in range(1, 5):
        replayed, memory = learned[5 * batch - 1], known[: 5 * batch]
        assert all(replayed.count(each) <= memory.count(each) for each in replayed)
        older += sum(each not in memory[-5:] for each in replayed)
    assert older


def test_nothing_is_drawn_before_a_batch_is_learned_from(tmp_path: Path) -> None:
    engine = ToyEngine(slots=8)
    module = make(engine, batch=5, in_flight=8, trials=20)
    most = 0

    class Watch(type(module)):  # type: ignore[misc]
        def propose(self, number: int) -> Any:
            nonlocal most
            most = max(most, number - len(self.history))
            return super().propose(number)

    module.__class__ = Watch
    fit(module, None, tmp_path, epochs=1)
    assert most == 5


def test_its_table_has_every_worth_that_was_learned(tmp_path: Path) -> None:
    module = make(ToyEngine(), trials=20)
    fit(module, None, tmp_path, epochs=1)
    rows = module.tables()["q_values"]
    assert {(row["state"], row["action"]): row["q"] for row in rows} == {
        (state, action): value for state, known in module.q.items() for action, value in known.items()
    }
    taken = {step[:2] for trial, _ in module.history for step in steps(module.space, trial.architecture)}
    assert {(row["state"], row["action"]) for row in rows} == taken


@pytest.mark.parametrize("schedule", [[[1.5, 3]], [[0.5, 0]], []])
def test_a_schedule_that_is_none_is_refused(schedule: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match=r"epsilons: got .*; legal: list of list of 2 .*, at least 1"):
        make(ToyEngine(), epsilons=schedule)
