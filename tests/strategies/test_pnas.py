"""PNAS (arXiv:1712.00559)."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_nas.architecture import Architecture
from lightning_nas.functional.ranking import spearman
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.nasnet.pnas import PNASSpace
from lightning_nas.strategies.multi_trial.pnas import PNAS
from lightning_nas.strategies.surrogate import SURROGATES, SurrogateKind
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, ToyEngine, TrialStrategyCase, toy_worth
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import generator
from lightning_nas.trials.engines.base import Engine

SMALL = {"beam": 6, "first": None, "ensemble": 2, "hidden": 8, "steps": 30, "lr": 0.03}
CELLS = PNASSpace(image_size=8, in_channels=1, cells=1, filters=4, blocks=3)


def make(engine: Engine, seed: int = 0, **options: Any) -> PNAS:
    space = ToySpace(LAYERS)
    return PNAS(space, Classification(), Macs()(space), engine=engine, seed=seed, **SMALL | options)


class TestPnas(TrialStrategyCase):
    seeds, found_at_least = 8, 6

    @pytest.fixture
    def make(self) -> MakeTrials:
        return make


def cell_worth(architecture: Architecture) -> float:
    """A cell is worth the mean of its operations, best if they are large convolutions on late states."""
    choices = dict(architecture.choices)
    blocks = int(choices["blocks"])
    operations = [option for name, option in choices.items() if "_op_" in name]
    late = sum(int(option[1:]) for name, option in choices.items() if "_input_" in name)
    good = sum({"sep_conv_5x5": 1.0, "sep_conv_3x3": 0.8, "max_pool_3x3": 0.4}.get(o, 0.0) for o in operations)
    return 0.5 * good / len(operations) + 0.1 * late / len(operations) + 0.05 * blocks


def grown(folder: Path, **options: Any) -> PNAS:
    engine = ToyEngine(noise=0.02, worth=cell_worth)
    asked = {**SMALL, "first": 30, "beam": 10, "trials": 100, "steps": 60} | options
    module = PNAS(CELLS, Classification(), engine=engine, **asked)
    fit(module, None, folder, epochs=1, every=1000)
    return module


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> PNAS:
    return grown(tmp_path_factory.mktemp("one"))


def test_cells_grow_by_one_block_a_level_from_trained_cells(one: PNAS) -> None:
    levels = {level: [t.architecture for t, _ in one.history if t.info["level"] == level] for level in (1, 2, 3)}
    assert {level: len(cells) for level, cells in levels.items()} == {1: 30, 2: 10, 3: 10}  # and the search ends
    for level, cells in levels.items():
        assert all(cell["blocks"] == str(level) for cell in cells)
    for level in (2, 3):
        legal = {expansion for cell in levels[level - 1] for expansion in CELLS.expansions(cell)}
        assert set(levels[level]) <= legal


def test_without_a_share_all_136_cells_of_one_block_are_trained(tmp_path: Path) -> None:
    module = grown(tmp_path, first=None, trials=200, levels=1)
    assert Counter(trial.info["level"] for trial, _ in module.history) == {1: 136}
    assert len({trial.architecture for trial, _ in module.history}) == 136


def test_the_next_level_is_better_than_the_one_before(one: PNAS) -> None:
    """The surrogate picks 10 of thousands; drawn at random they would be no better."""
    means = [torch.tensor([r for t, r in one.history if t.info["level"] == level]).mean() for level in (1, 2, 3)]
    drawn = [cell_worth(cell) for cell in CELLS.different(500, generator(0)) if cell["blocks"] == "3"]
    assert means[0] < means[1] < means[2]
    assert means[2] > torch.tensor(drawn).quantile(0.95)


@pytest.mark.parametrize("kind", SURROGATES)
def test_the_surrogate_ranks_larger_cells_than_it_has_seen(kind: SurrogateKind) -> None:
    """Fitted to cells of one and two blocks; rewards that say nothing are predicted by chance."""
    known = [*CELLS.expansions()[::3], *CELLS.expansions(CELLS.expansions()[0])[::4]]
    unknown = CELLS.expansions(known[-1])[::3]
    truth, rhos = torch.tensor([cell_worth(cell) for cell in unknown]), {}
    decisions = [decision for decision in CELLS.decisions if decision.node]
    for said in ("true", "shuffled"):
        surrogate, rewards = SURROGATES[kind](decisions, 5, 16), [cell_worth(cell) for cell in known]
        if said == "shuffled":
            rewards = [rewards[i] for i in torch.randperm(len(rewards), generator=generator(1)).tolist()]
        surrogate.fit(known, rewards, generator(0), steps=100, lr=0.02)
        rhos[said] = spearman(surrogate.predict(unknown), truth).item()
    assert rhos["true"] > 0.6, rhos
    assert rhos["true"] > rhos["shuffled"] + 0.3, rhos


@pytest.mark.parametrize("kind", SURROGATES)
def test_the_surrogate_ranks_architectures_it_has_not_seen(kind: SurrogateKind) -> None:
    space = ToySpace(LAYERS)
    everything = space.different(200, generator(0))
    surrogate = SURROGATES[kind](space.decisions, 5, 16)
    surrogate.fit(everything[:60], [toy_worth(a) for a in everything[:60]], generator(0), steps=100, lr=0.02)
    others = everything[60:]
    rho = spearman(surrogate.predict(others), torch.tensor([toy_worth(a) for a in others]))
    assert rho > 0.7


def test_rewards_that_differ_by_next_to_nothing_can_be_fitted() -> None:
    space = ToySpace(LAYERS)
    known, surrogate = space.different(20, generator(0)), SURROGATES["mlp"](space.decisions, 5, 16)
    surrogate.fit(known, [0.5 + 1e-9 * toy_worth(a) for a in known], generator(0), steps=100, lr=0.02)
    predicted = surrogate.predict(known)
    assert predicted.isfinite().all()
    assert spearman(predicted, torch.tensor([toy_worth(a) for a in known])) > 0.7


@pytest.mark.parametrize("kind", SURROGATES)
def test_members_of_an_ensemble_do_not_know_of_each_other(kind: SurrogateKind) -> None:
    """One that runs all members at once equals each by itself: the gradient of one is zero for another's loss."""
    space = ToySpace(2)
    surrogate = SURROGATES[kind](space.decisions, 3, 4)
    surrogate.parameters = [parameter.requires_grad_() for parameter in surrogate.draw(generator(0))]
    surrogate.run(surrogate.encode(space.different(5, generator(0))))[1].sum().backward()
    for parameter in surrogate.parameters:
        assert parameter.grad is not None
        assert not parameter.grad[[0, 2]].any()


def test_each_share_of_the_data_is_left_out_by_one_member() -> None:
    shares = SURROGATES["mlp"](ToySpace(2).decisions, 5, 4)._shares(20, generator(0))
    assert shares.sum(0).tolist() == [4.0] * 20
    assert shares.sum(1).tolist() == [16.0] * 5


def test_what_was_predicted_is_compared_with_what_came(one: PNAS) -> None:
    assert [level for level, _ in one.quality] == [2, 3]
    for level, agreement in one.quality:
        pairs = [(t.info["predicted"], reward) for t, reward in one.history if t.info["level"] == level]
        predicted, rewards = torch.tensor(pairs, dtype=torch.float64).T
        assert agreement == spearman(predicted, rewards).item()


def test_the_next_level_is_predicted_better_than_by_chance(tmp_path: Path) -> None:
    """Even inside the beam, whose members all look good to the surrogate."""
    found = [rho for seed in range(3) for _, rho in grown(tmp_path / str(seed), seed=seed, beam=20).quality]
    assert len(found) == 6
    assert torch.tensor(found).mean() > 0.1, found
