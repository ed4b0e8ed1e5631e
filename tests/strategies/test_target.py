"""Targets: projections against all architectures of small spaces, refusals, and searches of every family."""

import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from own_modules import Residual
from strategies_of_conf import toy_for
from torch import Tensor

import lightning_nas as ln
from lightning_nas.architecture import Architecture
from lightning_nas.cli import presets
from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError
from lightning_nas.functional.penalties import next_multiplier
from lightning_nas.latency.table import Entry, LatencyTable
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.chains.mnasnet import MnasNetSpace
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.enas.macro import ENASMacroSpace
from lightning_nas.spaces.enas.micro import ENASMicroSpace
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.strategies import parts
from lightning_nas.strategies.differentiable.darts import DARTS
from lightning_nas.strategies.differentiable.drnas import DrNAS
from lightning_nas.strategies.differentiable.fbnet import FBNet
from lightning_nas.strategies.differentiable.p_darts import PDARTS
from lightning_nas.strategies.differentiable.proxyless import ProxylessNAS
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.penalties import MnasNetProduct
from lightning_nas.strategies.target import NEAR, Limit, Target
from lightning_nas.testing.multi_trial import ToyEngine
from lightning_nas.testing.repeating import RepeatingCase
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.training.network import quiet_trainer

SIZES: dict[str, Any] = {"image_size": 8, "in_channels": 1, "num_classes": 4}
PRICES = {"stem": 0.31, "head": 0.22, "blur": 0.113, "swap": 0.294, "keep": 0.571}  # of toy operations, milliseconds
LAYERS = 5
SMALL: dict[str, Callable[[], WeightSharingSpace]] = {
    "fbnet": lambda: FBNetSpace(**SIZES, stem=(8, 1), stages=[(8, 1, 1), (16, 1, 2)], head=16),
    "enas_macro": lambda: ENASMacroSpace(**SIZES, layers=3, channels=4),
}


def priced(space: SearchSpace) -> LatencyTable:
    """A table of a toy space in milliseconds."""
    entries = {key: Entry(median=price, iqr=0.0) for key, price in PRICES.items()}
    return LatencyTable.macs(space).model_copy(update={"unit": "ms", "entries": entries})


def all_of(space: WeightSharingSpace) -> Iterator[Architecture]:
    for options in itertools.product(*(decision.options for decision in space.decisions)):
        yield space.validate(dict(zip([d.name for d in space.decisions], options, strict=True)))


def undecided(space: WeightSharingSpace, seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {group: torch.randn(s, generator=draw).double().softmax(-1) for group, s in space.gate_shapes.items()}


def probability(space: WeightSharingSpace, architecture: Architecture, rows: dict[str, Tensor]) -> float:
    """Logarithm; of DARTS' edges that are not taken none."""
    taken = space.gates(architecture).values
    none = {group: [o == "none" for o in space.gate_options[group]] for group in taken}
    counted = {g: values.clone() for g, values in taken.items()}
    if isinstance(space, DARTSSpace):
        for group, values in counted.items():
            values[:, none[group]] = 0.0
    return sum(float((values * rows[group].log()).sum()) for group, values in counted.items())


@pytest.mark.parametrize("name", SMALL)
def test_the_projection_is_the_most_probable_of_all(name: str) -> None:
    space = SMALL[name]()
    tables = LatencyTable.macs(space), LatencyTable.params(space)
    every = [(a, *(space.cost(a, table) for table in tables)) for a in all_of(space)]
    costs = sorted(macs for _, macs, _ in every)
    rows = undecided(space, 3)
    scores = {a: probability(space, a, rows) for a, *_ in every}
    for share in (0.0, 0.02, 0.3, 0.8):
        macs = costs[int(share * (len(costs) - 1))]
        params = max(p for _, m, p in every if m <= macs)
        for wanted in ({"macs": macs}, {"macs": macs, "params": params}):
            target = Target.of(space, None, wanted)
            assert target is not None
            bounds = (wanted["macs"], wanted.get("params", math.inf))
            kept = [a for a, m, p in every if m <= bounds[0] and p <= bounds[1]]
            near = [a for a in kept if any(gap >= NEAR - 1 for gap in target.gaps(a))]
            found = target.project(rows)
            assert target.keeps(found)
            assert scores[found] == pytest.approx(max(scores[a] for a in near), abs=1e-9)
            assert target.cheapest[0] == costs[0]


@pytest.mark.parametrize("name", ["darts", "enas_micro", "enas_macro", "nasbench201"])
def test_no_drawn_architecture_within_a_target_beats_the_projection(name: str) -> None:
    large: dict[str, Callable[[], WeightSharingSpace]] = {
        "darts": lambda: DARTSSpace(**SIZES, cells=3, channels=4, evaluation=None),
        "enas_micro": lambda: ENASMicroSpace(**SIZES, layers=1, nodes=3, channels=4),
        "enas_macro": lambda: ENASMacroSpace(**SIZES, layers=6, channels=4),
        "nasbench201": lambda: NASBench201Space(**SIZES, channels=4, cells=(1, 1)),
    }
    space, draw = large[name](), torch.Generator().manual_seed(1)
    table, rows = LatencyTable.params(space), undecided(space, 2)
    free = space.derive(rows)
    target = Target.of(space, table, 0.9 * space.cost(free, table))
    assert target is not None
    found = target.project(rows)
    best = probability(space, found, rows)
    assert target.meets(found)
    assert best <= probability(space, free, rows)
    for _ in range(30):
        other = target.nearest(space.sample(draw), draw)
        assert target.meets(other)
        assert probability(space, other, rows) <= best + 1e-9
    for other in space.neighbours(found, draw):
        if target.meets(other):
            assert probability(space, other, rows) <= best + 1e-9


def test_without_need_the_projection_is_the_derived_architecture() -> None:
    space = DARTSSpace(**SIZES, cells=3, channels=4, evaluation=None)
    table, rows = LatencyTable.macs(space), undecided(space, 0)
    target = Target.of(space, table, space.cost(space.derive(rows), table))
    assert target is not None
    assert target.project(rows) == space.derive(rows)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6, 0.9])
def test_costs_that_do_not_add_up_are_climbed_to_the_best_of_all(share: float) -> None:
    space = ln.FromModel(Residual(), (1, 3, 8, 8))
    table, rows = LatencyTable.macs(space), undecided(space, 0)
    every = {space.canonical(a): space.cost(a, table) for a in all_of(space)}
    limit = sorted(every.values())[int(share * (len(every) - 1))]
    module = FBNet(space, table=table, target=limit)
    assert module.projected() in every
    assert module.target is not None
    found = module.target.project(rows)
    best = max(probability(space, a, rows) for a, cost in every.items() if cost <= limit)
    assert every[found] <= limit
    assert probability(space, found, rows) == pytest.approx(best)


def test_too_many_shared_costs_are_climbed(monkeypatch: pytest.MonkeyPatch) -> None:
    space, draw = ENASMacroSpace(**SIZES, layers=4, channels=4), torch.Generator().manual_seed(0)
    table, rows = LatencyTable.params(space), undecided(space, 1)
    limit = 0.9 * space.cost(space.derive(rows), table)
    exact = Target.of(space, table, limit)
    monkeypatch.setattr(parts, "MOST_SHARED", 2)
    climbing = Target.of(space, table, limit)
    assert exact is not None
    assert climbing is not None
    found, best = climbing.project(rows), probability(space, exact.project(rows), rows)
    assert climbing.keeps(found)
    assert best - 1 <= probability(space, found, rows) <= best
    for other in space.neighbours(found, draw):
        if climbing.keeps(other):
            assert probability(space, other, rows) <= probability(space, found, rows) + 1e-9


def test_spaces_without_a_supernet_keep_a_target() -> None:
    space, draw = MnasNetSpace(**SIZES), torch.Generator().manual_seed(0)
    table = LatencyTable.params(space)
    target = Target.of(space, table, sorted(space.cost(space.sample(draw), table) for _ in range(20))[3])
    assert target is not None
    assert all(target.keeps(target.nearest(space.sample(draw), draw)) for _ in range(20))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (1.0, r"target=1 ms: the cheapest architecture of toy costs 1.095 ms; legal: at least that"),
        ({"params": 1}, r"target_params=1 params: the cheapest architecture of toy costs \d+ params"),
        ({"ms": -1.0}, r"target: got {'ms': -1.0}; legal: float > 0"),
        ({"seconds": 1.0}, r"'seconds' is no cost; legal: table, ms, macs, params"),
        (True, r"target: got True"),
        (math.nan, r"target: got nan"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_cheapest(wanted: Any, said: str) -> None:
    space = ToySpace(LAYERS)
    with pytest.raises(ConfigError, match=said):
        DARTS(space, table=priced(space), target=wanted)


def test_targets_that_exclude_each_other_are_refused_together() -> None:
    space = ToySpace(2)
    table = priced(space)
    macs = LatencyTable.macs(space)
    reversed_prices = {key: Entry(median=2.0 - price, iqr=0.0) for key, price in PRICES.items()}
    other = macs.model_copy(update={"entries": reversed_prices})
    cheap = [min(space.cost(a, t) for a in all_of(space)) for t in (table, other)]
    limits = [Limit("target_ms", c, c, "ms", t) for c, t in zip(cheap, (table, other), strict=True)]
    with pytest.raises(ConfigError, match="no architecture of toy keeps all of them"):
        Target(space, limits)
    wide = Target(space, [replace(limit, value=2 * limit.value) for limit in limits])
    assert wide.tightened(cheap) is wide
    assert wide.tightened([1.9 * cost for cost in cheap]).limits != wide.limits


def test_a_target_without_a_table_names_the_tables() -> None:
    with pytest.raises(ConfigError, match=r"target=2 needs costs; choose latency_table=measured, macs, params or file"):
        DARTS(ToySpace(), target=2.0)
    with pytest.raises(ConfigError, match=r"target_ms=2 needs latencies, and the latency table is in MACs"):
        DARTS(ToySpace(), table=LatencyTable.macs(ToySpace()), target={"ms": 2.0})


# -- searches -----------------------------------------------------------------------------------------------------


def data() -> SearchData:
    return ToyData(128, val_fraction=0.25, batch_size=16)


STRATEGIES = [get_class(presets.content("strategy", name)["_target_"]) for name in presets.names("strategy")]
OPTIONS: dict[str, dict[str, Any]] = {
    "ENAS": {"candidates": 3, "arch_warmup_epochs": 0},
    "FBNet": {"candidates": 3, "arch_warmup_epochs": 0},
    "MdeNAS": {"warmup_epochs": 0, "path_batches": 2},
    "PDARTS": {"stage_epochs": 2, "dropped": (1,), "added_cells": (0, 0), "skip_dropout": (0.0, 0.0)},
    "ProxylessNAS": {"arch_warmup_epochs": 0, "arch_every": 1},
    "DrNAS": {"stage_epochs": 1, "kept": (2,)},
    "RandomWS": {"candidates": 3},
    "AttentiveNAS": {"generations": 2, "population": 3, "parents": 2},
    "OFA": {"generations": 2, "population": 3, "parents": 2},
    "BigNAS": {"generations": 2, "population": 3, "parents": 2},
    "SPOS": {"generations": 2, "population": 3, "parents": 2},
}


@pytest.mark.parametrize("made", STRATEGIES, ids=lambda made: made.__name__)
def test_every_strategy_answers_within_its_target(made: Any) -> None:
    space = toy_for(made, LAYERS)
    own = dict(OPTIONS.get(made.__name__, {}))
    trials = issubclass(made, TrialSearch)
    if trials:
        own |= {"engine": ToyEngine(), "trials": 12}
    elif "arch_warmup_epochs" in inspect.signature(made).parameters:
        own.setdefault("arch_warmup_epochs", 0)
    module = made(space, table=priced(space), target=2.25, **own)
    epochs = {PDARTS: 4, DrNAS: 2}.get(made, 1)
    quiet_trainer(1 if trials else epochs).fit(module, **({} if trials else {"datamodule": data()}))
    answer = module.answer()
    assert module.target.meets(answer)
    assert 0.97 * 2.25 <= space.cost(answer, module.table) <= 2.25
    if trials and made is not ln.EAS:
        assert all(module.target.meets(trial.architecture) for trial, _ in module.history)


def steered(seed: int = 0, **options: Any) -> DARTS:
    space = ToySpace()
    defaults = {**PLAIN_ARCH, "arch_optimizer": partial(torch.optim.Adam, lr=0.05, betas=(0.5, 0.999))}
    return DARTS(space, table=priced(space), seed=seed, **{"target": 1.15} | defaults | options)


class TestSteeredSearch(RepeatingCase):
    """The multipliers are part of the checkpoint."""

    @pytest.fixture
    def make(self) -> Callable[..., DARTS]:
        return steered


def test_multipliers_rise_until_the_derived_architecture_is_cheap() -> None:
    module = steered(arch_warmup_epochs=0)
    quiet_trainer(8).fit(module, datamodule=data())
    assert module.multipliers[0] > 0
    assert module.space.cost(module.answer(), module.table) <= 1.15
    free = steered(arch_warmup_epochs=0, target=None)
    quiet_trainer(8).fit(free, datamodule=data())
    costs = [float(free.space.cost(one.derive(), free.table)) for one in (module, free)]
    assert costs[0] < costs[1]


def test_a_multiplier_is_that_of_an_augmented_lagrangian() -> None:
    """For min (x - 2)^2 with x <= 1 it converges to x = 1 with the multiplier 2, the constraint's shadow price."""
    x, price, before = 0.0, 0.0, -1.0
    for _ in range(2000):
        x -= 0.05 * (2 * (x - 2) + price)
        price, before = next_multiplier(price, x - 1, before, 0.05, 0.5), x - 1
    assert x == pytest.approx(1, abs=1e-6)
    assert price == pytest.approx(2, abs=1e-5)


def test_penalties_of_the_papers_stay_beside_a_target() -> None:
    space = ToySpace()
    table = LatencyTable.macs(space)
    loss, cost = torch.tensor(1.5), 4000.0
    for made in (FBNet, partial(ProxylessNAS, penalty=MnasNetProduct())):
        plain, bounded = (made(space, table=table, target=target) for target in (None, cost))
        assert torch.equal(plain.penalised(loss), bounded.penalised(loss))
        bounded.multipliers = [0.5]
        expected = float(bounded.cost(bounded.space.gates(space.best)))
        gates = space.gates(space.best)
        more = bounded.penalised(loss, gates) - plain.penalised(loss, gates)
        assert float(more) == pytest.approx(0.5 * (expected / cost - 1), rel=1e-5)
