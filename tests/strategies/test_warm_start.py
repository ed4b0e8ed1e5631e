"""Searches by trials that begin with the best of many architectures by a score without training."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, zscore
from torch.nn import functional

from lightning_nas.errors import ConfigError
from lightning_nas.latency.sources import Macs
from lightning_nas.proxies.snip import snip
from lightning_nas.spaces.nasnet.pnas import PNASSpace
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace
from lightning_nas.strategies.multi_trial.asha import ASHA
from lightning_nas.strategies.multi_trial.bananas import Bananas, fitted, predicted, standardised
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.multi_trial.block_qnn import BlockQNN
from lightning_nas.strategies.multi_trial.eas import EAS
from lightning_nas.strategies.multi_trial.local_search import LocalSearch
from lightning_nas.strategies.multi_trial.mnasnet import MnasNet
from lightning_nas.strategies.multi_trial.multi_fidelity import MultiFidelity
from lightning_nas.strategies.multi_trial.nas_rl import NASRL
from lightning_nas.strategies.multi_trial.nasnet import NASNet
from lightning_nas.strategies.multi_trial.optuna_search import OptunaSearch
from lightning_nas.strategies.multi_trial.pnas import PNAS
from lightning_nas.strategies.multi_trial.proxy_search import ProxySearch
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.strategies.multi_trial.regularized_evolution import RegularizedEvolution
from lightning_nas.strategies.multi_trial.successive_halving import SuccessiveHalving
from lightning_nas.strategies.warm_start import WarmStart
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import ToyEngine
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fingerprint, fit, one_thread
from lightning_nas.training.seeding import generator, seeded

TAKE = 3
WARM = {"proxy": "snip", "draw": 20, "take": TAKE}
FIRST = (  # strategies whose first trials are those of the warm start, in this order
    (RandomSearch, {}),
    (RegularizedEvolution, {"population": 4}),
    (ProxySearch, {"population": 4}),
    (ProxySearch, {"proposals": "random", "population": 4}),
    (Bananas, {"initial": 4, "batch": 3}),
    (OptunaSearch, {}),
    (PNAS, {"beam": 4, "first": 4}),
    (SuccessiveHalving, {"initial": 4, "rungs": (1, 2), "eta": 2}),
    (NASNet, {"children": 2}),
    (NASNet, {"update": "random"}),
    (MnasNet, {"children": 2}),
    (NASRL, {}),
    (BlockQNN, {"batch": 2}),
)
IDS = [f"{made.__name__} {more}" for made, more in FIRST]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    with one_thread():
        yield


def searched(made: type[TrialSearch], folder: Path, *, resume: Path | None = None, **options: Any) -> TrialSearch:
    """A search on the 27 architectures of three layers, with rewards of a toy engine and scores on toy data."""
    every = options.pop("every", 1000)
    space = ToySpace(3)
    given = {"engine": ToyEngine(2, noise=0.1), "trials": 8, "trials_per_step": 1, "warm_start": WARM} | options
    module = made(space, None, Macs()(space), **given)
    trainer = fit(module, ToyData(), folder, epochs=1, every=every, resume=resume)
    module.ended = (fingerprint(trainer, module, folder), module.answer())  # type: ignore[assignment]
    return module


def by_brute_force(seed: int = 0) -> list[tuple[float, Any]]:
    """All drawn architectures with their SNIP scores, the best first."""
    space, data = ToySpace(3), ToyData()
    data.setup("fit")
    [(x, y)] = data.calibration_batches(1)
    while len(x) < 64:
        batches = data.calibration_batches(-(-64 // len(x)))
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    found = []
    for architecture in space.different(20, generator(seed, "warm start", 0)):
        with seeded(seed, "truth", architecture.key):
            network = space.network(architecture)
        found.append((snip(network, (x[:64], y[:64]), functional.cross_entropy), architecture))
    return sorted(found, key=lambda pair: -pair[0])


@pytest.mark.parametrize(("made", "more"), FIRST, ids=IDS)
def test_the_first_trials_are_the_best_by_brute_force(
    made: type[TrialSearch], more: dict[str, Any], tmp_path: Path
) -> None:
    best = by_brute_force()[:TAKE]
    module = searched(made, tmp_path, **more)
    first = sorted((trial for trial, _ in module.history), key=lambda trial: trial.number)[:TAKE]
    assert [trial.architecture for trial in first] == [architecture for _, architecture in best]
    assert [trial.info["warm_start"] for trial in first] == pytest.approx([score for score, _ in best])
    assert len(module.history) == 8


@pytest.mark.parametrize(
    ("made", "more"),
    [
        *FIRST,
        (LocalSearch, {}),
        (ASHA, {"rungs": (1, 2), "eta": 2}),
        (EAS, {"networks": 2}),
        (Bananas, {"initial": 4, "batch": 2, "features": ["snip", "macs"]}),
    ],
)
def test_a_search_resumes_to_the_bit_from_every_checkpoint(
    made: type[TrialSearch], more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = WARM | {"take": 1} if made is EAS else WARM
    whole = tmp_path / "whole"
    expected = searched(made, whole, every=1, warm_start=warm, **more).ended
    monkeypatch.setattr(WarmStart, "best", lambda *_, **__: pytest.fail("a resumed search scores again"))
    for checkpoint in sorted((whole / "checkpoints").glob("*.ckpt"))[::3]:
        again = tmp_path / checkpoint.stem
        again.mkdir()
        for file in [*whole.glob("*.csv"), whole / "trials.jsonl"]:
            shutil.copy(file, again)
        assert searched(made, again, resume=checkpoint, warm_start=warm, **more).ended == expected


def test_local_search_starts_at_the_best_and_restarts_at_the_next(tmp_path: Path) -> None:
    best = [architecture for _, architecture in by_brute_force()[:TAKE]]
    module = searched(LocalSearch, tmp_path, trials=27, in_flight=1)
    starts = [trial for trial, _ in module.history if "start" in trial.info]
    assert len(starts) > 1
    assert [trial.architecture for trial in starts[:TAKE]] == best[: len(starts)]


def test_asha_begins_its_trainings_with_the_best(tmp_path: Path) -> None:
    best = [architecture for _, architecture in by_brute_force()[:TAKE]]
    module = searched(ASHA, tmp_path, rungs=(1, 2), eta=2)
    begun = [trial.architecture for trial, _ in module.history if trial.continues is None]
    assert begun[:TAKE] == best


def test_eas_starts_at_the_best(tmp_path: Path) -> None:
    module = searched(EAS, tmp_path, networks=2, warm_start=WARM | {"take": 1})
    assert module.history[0][0].architecture == by_brute_force()[0][1]
    with pytest.raises(ConfigError, match="take=3 is more than this search can begin with; legal: take at most 1"):
        searched(EAS, tmp_path / "more")


def test_given_starts_come_before_the_warm_start(tmp_path: Path) -> None:
    file = tmp_path / "given.json"
    file.write_text(json.dumps(ToySpace(3).best.to_dict()))
    best = [architecture for _, architecture in by_brute_force()[:TAKE]]
    for made, more in ((RegularizedEvolution, {"population": 5}), (OptunaSearch, {})):
        module = searched(made, tmp_path / made.__name__, start=[str(file)], **more)
        assert [trial.architecture for trial, _ in module.history][:4] == [ToySpace(3).best, *best]


def test_only_architectures_that_keep_the_target_are_taken(tmp_path: Path) -> None:
    module = searched(RandomSearch, tmp_path, target={"macs": 1.0e5}, warm_start=WARM)
    assert module.target is not None
    kept = [architecture for _, architecture in by_brute_force() if module.target.keeps(architecture)]
    assert len(kept) > 0
    assert module.warm == kept[:TAKE]


def test_the_log_says_how_it_began(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lightning_nas"):
        searched(RandomSearch, tmp_path)
    assert "warm start: begins with the best 3 of 20 random architectures by snip" in caplog.text


@pytest.mark.parametrize(
    ("made", "options", "words"),
    [
        (RegularizedEvolution, {"population": 2}, "legal: take at most 2"),
        (Bananas, {"initial": 2}, "legal: take at most 2"),
        (MultiFidelity, {"rungs": (1, 2), "eta": 2, "initial": 2}, "legal: null"),
        (RandomSearch, {"warm_start": {"proxy": "snip", "draw": 2, "take": 3}}, "legal: take at most draw, 2"),
        (RandomSearch, {"warm_start": {"draw": 2}}, "legal: a mapping with proxy, the name of a score"),
        (RandomSearch, {"warm_start": {"proxy": "snip", "number": 2}}, "legal: a mapping with proxy"),
        (RandomSearch, {"warm_start": {"proxy": "accuracy"}}, "warm_start: got"),
    ],
)
def test_a_warm_start_that_cannot_be_is_refused(
    made: type[TrialSearch], options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        searched(made, tmp_path, **options)


def test_spaces_that_cannot_be_scored_or_grow_are_refused() -> None:
    words = DARTSRNNSpace("tiny", bptt=5, num_classes=20, width=6, steps=2)
    with pytest.raises(ConfigError, match=r"those of tiny take words; legal: null"):
        RandomSearch(words, warm_start=WARM)
    assert PNAS(PNASSpace("tiny"), Classification()).most_begun_with == 0


def test_features_of_bananas_are_the_scores_by_brute_force(tmp_path: Path) -> None:
    """The last columns are the scores on a logarithmic scale, with mean 0 and deviation 1."""
    module = searched(Bananas, tmp_path, initial=4, batch=2, features=["snip", "macs"], warm_start=None)
    costs = Macs()(module.space)
    known = by_brute_force()
    drawn = [architecture for _, architecture in known]
    inputs = module.encoded(drawn)  # type: ignore[attr-defined]
    plain = Bananas(ToySpace(3), encoding="one_hot").encoded(drawn)
    assert torch.equal(inputs[:, :-2], plain)
    columns = [[score for score, _ in known], [module.space.cost(architecture, costs) for architecture in drawn]]
    for column, values in zip(inputs[:, -2:].T, columns, strict=True):
        size = np.log1p(values)
        assert column.numpy() == pytest.approx(zscore(size / (1 + size)), abs=1e-4)


def test_a_feature_that_decides_the_reward_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitted to rewards that a score decides and single options do not, predictors order unseen architectures by it."""
    space, rng = ToySpace(5), generator(0)
    drawn = space.different(80, rng)
    worth = torch.rand(len(drawn), generator=rng, dtype=torch.float64)
    known = dict(zip(drawn, worth.tolist(), strict=True))
    lookup = "lightning_nas.strategies.multi_trial.bananas.fresh_scores"
    monkeypatch.setattr(lookup, lambda name, space, new, *_: [known[architecture] for architecture in new])
    inputs = Bananas(space, encoding="one_hot", features=["macs"]).encoded(drawn)
    targets, how = standardised(worth[:40])[0], {"members": 3, "hidden": 16, "steps": 60, "lr": 0.01}
    agreement = []
    for columns in (inputs, inputs[:, :-1]):
        predictions = predicted(fitted(columns[:40], targets, rng, **how), columns[40:])  # type: ignore[arg-type]
        agreement.append(kendalltau(predictions.mean(0), worth[40:]).statistic)
    assert agreement[0] > 0.8 > 0.3 > agreement[1]


@pytest.mark.parametrize(
    ("features", "words"), [(["az_nas"], "az_nas ranks a set of networks"), (["accuracy"], "features: got")]
)
def test_features_that_one_network_does_not_have_are_refused(features: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Bananas(ToySpace(3), features=features)  # type: ignore[arg-type]


def test_scores_of_networks_alone_need_no_data(tmp_path: Path) -> None:
    space, warm = ToySpace(3), WARM | {"proxy": "macs"}
    costs = Macs()(space)
    drawn = space.different(20, generator(0, "warm start", 0))
    most = sorted((space.cost(architecture, costs) for architecture in drawn), reverse=True)[:TAKE]
    module = RandomSearch(space, None, costs, engine=ToyEngine(), trials=5, warm_start=warm)
    fit(module, None, tmp_path, epochs=1, every=1000)
    assert [space.cost(architecture, costs) for architecture in module.warm] == most
