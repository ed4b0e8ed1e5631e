from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import groupby, product
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from views import ViewData, ViewSpace

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError
from lightning_nas.latency.sources import Macs
from lightning_nas.latency.table import Entry, LatencyTable
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.evolution import cheapest
from lightning_nas.strategies.one_path.spos import SPOS, fair_paths
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.distributed import two_ranks
from lightning_nas.testing.finding import FindingCase
from lightning_nas.testing.repeating import resume_everywhere
from lightning_nas.testing.searching import PLAIN
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit, one_thread
from lightning_nas.training.recalibrate import recalibrate
from lightning_nas.training.seeding import generator, seeded


def make_spos(seed: int = 0, space: type[ToySpace] = ToySpace, table: bool = True, **options: Any) -> SPOS:
    defaults: dict[str, Any] = {
        **PLAIN,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "calibration_batches": 2,
        "score_batches": 2,
    }
    defaults |= {"generations": 2, "population": 2, "parents": 1}
    made = space()
    with seeded(seed, "supernet"):
        return SPOS(made, Classification(), Macs()(made) if table else None, seed=seed, **defaults | options)


EVOLUTION = {
    "weights_optimizer": partial(torch.optim.SGD, lr=0.05),
    "space": ViewSpace,
    "generations": 6,
    "population": 4,
    "parents": 2,
    "mutation": 0.2,
}


class Evolved(FindingCase):
    """What both ways of sampling have in common: 24 of 81 architectures are scored."""

    search_options: ClassVar = EVOLUTION
    search_epochs, candidates = 10, 24

    @pytest.fixture
    def make(self) -> Callable[..., SPOS]:
        return make_spos

    @pytest.fixture
    def lessons(self) -> SearchData:
        return ViewData()

    def found(self, module: SearchModule) -> Architecture:
        answer = module.answer()
        assert len(module.evolved) <= self.candidates
        return answer


class TestSPOS(Evolved, StrategyCase):
    """It finds the best in 18 of 20 seeds; random search that scores as many architectures in 4 of 20."""


class TestFairSampling(Evolved):
    """It finds the best in 19 of 20 seeds; random search that trains and scores as many architectures in 9 of 20."""

    search_options: ClassVar = EVOLUTION | {"sampling": "fair"}
    search_seeds, found_at_least, paths = 3, 3, 3


def test_each_option_is_trained_once_in_a_fair_batch() -> None:
    space, draw = ToySpace(), torch.Generator().manual_seed(0)
    orders = set()
    for _ in range(20):
        paths = fair_paths(space, draw)
        assert all(sorted(path[d.name] for path in paths) == sorted(d.options) for d in space.decisions)
        orders.add(tuple(path["layer_1"] for path in paths))
    assert len(orders) > 3


def test_fair_batches_train_options_equally_often_within_one() -> None:
    space = DARTSSpace(image_size=8, in_channels=1, num_classes=4, cells=3, channels=4, evaluation=None)
    most, total = max(len(d.options) for d in space.decisions), Counter[tuple[str, str]]()
    for seed in range(30):
        paths = fair_paths(space, torch.Generator().manual_seed(seed))
        assert len(paths) == most
        for decision in space.decisions:
            times = Counter(path[decision.name] for path in paths)
            counts = [times[option] for option in decision.options]
            assert max(counts) - min(counts) <= 1
            total.update((decision.name, path[decision.name]) for path in paths)
    for decision in space.decisions:
        expected = 30 * most / len(decision.options)
        assert all(total[decision.name, o] == pytest.approx(expected, rel=0.4) for o in decision.options)


def test_a_fair_step_has_the_sum_of_the_paths_gradients(tmp_path: Path) -> None:
    module, seen = make_spos(sampling="fair", weights_optimizer=partial(torch.optim.SGD, lr=0.0)), []

    class Watch(Callback):
        def on_before_optimizer_step(self, t: Any, m: Any, optimizer: Any) -> None:
            seen.append([p.grad.clone() for p in m.parameters()])

        def on_train_batch_end(self, t: Any, m: SPOS, outputs: Any, batch: Any, i: int) -> None:
            m.zero_grad()
            paths = fair_paths(m.space, generator(m.seed, "weights", m.position))
            sum(m.task_loss(batch["weights"], m.space.gates(path)) for path in paths).backward()
            for ours, theirs in zip(seen[-1], m.parameters(), strict=True):
                torch.testing.assert_close(ours, theirs.grad)

    fit(module, ToyData(304), tmp_path, epochs=1, every=1000, callbacks=[Watch()])
    assert len(seen) == module.weights_steps == module.position


def test_two_processes_average_the_sums_of_a_fair_step(tmp_path: Path) -> None:
    class Watch(Callback):
        def on_before_optimizer_step(self, t: Any, m: Any, optimizer: Any) -> None:
            self.taken = [p.grad.clone() for p in m.parameters()]

        def on_train_batch_end(self, t: Any, m: SPOS, outputs: Any, batch: Any, i: int) -> None:
            paths = fair_paths(m.space, generator(m.seed, "weights", m.position))
            loss = sum(m.task_loss(batch["weights"], m.space.gates(path)) for path in paths)
            own = torch.autograd.grad(loss, list(m.parameters()))
            for ours, theirs in zip(self.taken, own, strict=True):
                torch.distributed.all_reduce(theirs)
                torch.testing.assert_close(ours, theirs / 2)
            (tmp_path / f"checked{t.global_rank}").write_text(str(m.position))

    frozen = partial(torch.optim.SGD, lr=0.0)
    gloo: dict[str, Any] = {"devices": 2, "strategy": "ddp_notebook_find_unused_parameters_true"}
    with one_thread():
        module = make_spos(sampling="fair", weights_optimizer=frozen)
        fit(module, ToyData(304), tmp_path, epochs=1, every=1000, callbacks=[Watch()], **gloo)
        ends = two_ranks(partial(make_spos, sampling="fair", seed=2), ToyData(304), tmp_path / "ends")
    assert {(tmp_path / f"checked{rank}").read_text() for rank in range(2)} == {"3"}  # batches of both parts together
    assert ends[0] == ends[1]


def test_fair_searches_resume_to_the_bit(tmp_path: Path) -> None:
    resume_everywhere(partial(make_spos, sampling="fair"), ToyData(304, val_fraction=0.15), tmp_path, epochs=1)


def test_an_operation_that_is_not_used_is_not_moved(tmp_path: Path) -> None:
    """No gradient, so that neither weight decay nor momentum touches it."""
    module = make_spos(weights_optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1))
    changed = []

    class Watch(Callback):
        def on_train_batch_start(self, t: Any, m: SPOS, batch: Any, i: int) -> None:
            self.before = [layer.keep[0].weight.clone() for layer in m.supernet.layers]

        def on_train_batch_end(self, t: Any, m: SPOS, outputs: Any, batch: Any, i: int) -> None:
            path = m.space.sample(generator(m.seed, "weights", m.position))
            for layer, before, option in zip(m.supernet.layers, self.before, path.options, strict=True):
                changed.append((option == "keep", not torch.equal(layer.keep[0].weight, before)))

    fit(module, ToyData(304), tmp_path, epochs=4, every=1000, callbacks=[Watch()])
    assert {used for used, _ in changed} == {True, False}
    assert all(used == moved for used, moved in changed)


def test_every_candidate_is_recalibrated_and_scored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, scored = make_spos(generations=4, population=6), []
    fit(module, ToyData(304), tmp_path, epochs=1, every=1000)
    original = module.score

    def counted(architecture: Architecture) -> float:
        scored.append(architecture)
        return original(architecture)

    monkeypatch.setattr(module, "score", counted)
    answer = module.answer()
    assert len(set(scored)) == len(scored) == len(module.evolved) == 9
    assert module.scored[answer] == max(original(architecture) for architecture in scored)
    inherited = module.inherited(answer)
    before = [norm.running_mean.clone() for norm in inherited.modules() if isinstance(norm, nn.BatchNorm2d)]
    recalibrate(inherited, module.calibration())
    after = [norm.running_mean for norm in inherited.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert not any(torch.allclose(a, b) for a, b in zip(before, after, strict=True))


def test_all_candidates_keep_the_limit(tmp_path: Path) -> None:
    space = ToySpace()
    table = Macs()(space)
    limit = space.cost(space.validate({"layer_1": "keep", "layer_2": "blur"}), table)
    module = make_spos(generations=4, population=9, limit=limit)
    fit(module, ToyData(304), tmp_path, epochs=1, every=1000)
    assert module.answer() != space.best
    assert {str(c.architecture) for c in module.evolved} == {
        *("blur blur", "blur swap", "swap blur", "swap swap", "keep blur", "keep swap", "blur keep", "swap keep")
    }


def test_a_limit_below_the_cheapest_architecture_is_refused() -> None:
    table = Macs()(ToySpace())
    lowest = table["stem"] + table["head"]
    with pytest.raises(ConfigError, match=rf"limit=10 MACs.* costs {lowest:g} MACs; legal: at least that, or null"):
        make_spos(limit=10.0)
    make_spos(limit=lowest)
    with pytest.raises(ConfigError, match="needs costs"):
        make_spos(limit=10.0, table=False)


def test_a_limit_is_legal_down_to_the_cheapest_of_all_architectures() -> None:
    """Against all alternatives of each node of DARTS' cells, of which costs are sums; changes of one gene miss it."""
    space, draw = DARTSSpace(image_size=8, in_channels=1, num_classes=4, cells=3, channels=4), Random(2)
    macs = LatencyTable.macs(space)
    prices = {key: Entry(median=draw.random() ** 6 + 0.001, iqr=0.0) for key in macs.entries}
    table = macs.model_copy(update={"entries": prices})
    best = space.sample(generator(0, "any"))
    for _, node in groupby(space.decisions, key=lambda decision: decision.name.rpartition("_")[0]):
        decisions = list(node)
        names = [decision.name for decision in decisions]
        taken = (dict(zip(names, options, strict=True)) for options in product(*(d.options for d in decisions)))
        best = min(
            (space.validate({**dict(best.choices), **genes}) for genes in taken), key=lambda a: space.cost(a, table)
        )
    lowest = space.cost(best, table)
    climbed = cheapest(space, lambda a: space.cost(a, table), generator(0, "cheapest"))
    assert space.cost(climbed, table) > lowest * 1.001
    module = SPOS(space, None, table, limit=lowest * 1.0001)
    assert space.cost(module._floor, table) == pytest.approx(lowest)
    with pytest.raises(
        ConfigError, match=rf"the cheapest architecture of darts costs {lowest:.6g} MACs; legal: at least"
    ):
        SPOS(space, None, table, limit=lowest * 0.999)


def test_an_evolution_that_was_stopped_begins_anew_and_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, data = make_spos(generations=3, population=3), ToyData(304)
    fit(module, data, tmp_path, epochs=1, every=1000)
    answer, evolved = module.answer(), module.evolved
    again = make_spos(generations=3, population=3)
    fit(again, data, tmp_path / "again", epochs=1, resume=tmp_path / "checkpoints" / "last.ckpt")
    original, calls = again.score, []

    def stopped(architecture: Architecture) -> float:
        calls.append(architecture)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(architecture)

    monkeypatch.setattr(again, "score", stopped)
    with pytest.raises(KeyboardInterrupt):
        again.answer()
    assert (again.answer(), again.evolved) == (answer, evolved)
