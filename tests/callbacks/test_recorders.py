import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback
from scipy.stats import binom, kendalltau, spearmanr
from torch.nn import functional

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.architecture_logger import ArchitectureLogger
from lightning_nas.callbacks.rank_check import RankCheck
from lightning_nas.errors import ConfigError
from lightning_nas.latency.macs import count_macs
from lightning_nas.proxies.snip import snip
from lightning_nas.testing.callbacks import CallbackCase, toy_search
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit, one_thread
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.training.seeding import seeded
from lightning_nas.trials.proxy_child import first_images
from lightning_nas.truth.stand_alone import StandAlone

# of the nine toy architectures: an operation that keeps more of the image is better
WORTH = {"blur": 0.0, "swap": 1.0, "keep": 2.0}


def worth(space: Any, architectures: Sequence[Architecture], data: Any, task: Any, seed: int) -> list[float]:
    return [sum(WORTH[option] for option in a.options) + 0.1 * WORTH[a.options[0]] for a in architectures]


class TestArchitectureLogger(CallbackCase):
    @pytest.fixture
    def make(self) -> Callable[[], Callback]:
        return lambda: ArchitectureLogger(samples=2)


class TestRankCheck(CallbackCase):
    @pytest.fixture
    def make(self) -> Callable[[], Callback]:
        return lambda: RankCheck(worth, architectures=6, every_n_epochs=1, top_k=2)


class TestRankCheckWithScores(CallbackCase):
    @pytest.fixture
    def make(self) -> Callable[[], Callback]:
        return lambda: RankCheck(worth, architectures=6, every_n_epochs=1, top_k=2, proxies=["params", "snip"])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def test_scores_and_costs_in_the_table_are_those_of_the_search(tmp_path: Path) -> None:
    module = toy_search()
    fit(module, ToyData(), tmp_path, epochs=2, callbacks=[ArchitectureLogger(samples=1)])
    rows = CSVTable(tmp_path / "architectures.csv").read()
    assert [row["kind"] for row in rows] == ["derived", "sampled"] * 2
    assert module.table is not None
    for row in rows[2:]:  # the last epoch: nothing has changed since
        architecture = module.space.validate(dict(zip(("layer_1", "layer_2"), row["choices"].split(), strict=True)))
        assert architecture.key == row["key"]
        assert float(row["score"]) == module.score(architecture)
        assert float(row["cost"]) == module.space.cost(architecture, module.table)
    probabilities = CSVTable(tmp_path / "probabilities.csv").read()
    last = [float(row["probability"]) for row in probabilities if row["epoch"] == "1"]
    torch.testing.assert_close(torch.tensor(last).reshape(2, 3), module.probabilities()["layers"])


def test_the_figures_of_a_check_agree_with_scipy(tmp_path: Path) -> None:
    module, check = toy_search(), RankCheck(worth, architectures=8, every_n_epochs=2, top_k=3)
    fit(module, ToyData(), tmp_path, epochs=3, callbacks=[check])
    rows, points = CSVTable(tmp_path / "rank.csv").read(), CSVTable(tmp_path / "rank_points.csv").read()
    assert [row["epoch"] for row in rows] == ["1", "2"]  # every second, and the last
    for row in rows:
        at = [(float(p["score"]), float(p["truth"])) for p in points if p["epoch"] == row["epoch"]]
        scores, truth = zip(*at, strict=True)
        assert len({p["key"] for p in points}) == len(at) == 8
        assert float(row["kendall_tau"]) == pytest.approx(kendalltau(scores, truth).statistic)
        assert float(row["spearman"]) == pytest.approx(spearmanr(scores, truth).statistic)
        assert float(row["p_tau"]) == pytest.approx((float(row["kendall_tau"]) + 1) / 2)
        assert float(row["low"]) <= float(row["kendall_tau"]) <= float(row["high"])
        assert float(row["score_spread"]) == pytest.approx(np.std(scores, ddof=1))
        images = sum(len(y) for _, y in module.scoring())
        binomial = [binom(images, score).std() / images for score in scores]
        assert float(row["score_error"]) == pytest.approx(np.sqrt(np.mean(np.square(binomial))))
    macs = [count_macs(module.space.network(a), module.space.input_shape) for a in check.architectures]
    for row in rows:
        assert float(row["kendall_tau_macs"]) == pytest.approx(kendalltau(macs, check.truths).statistic)
        assert float(row["spearman_macs"]) == pytest.approx(spearmanr(macs, check.truths).statistic)
        side = "less" if float(row["kendall_tau"]) < 0 else "greater"
        at = [(float(p["score"]), float(p["truth"])) for p in points if p["epoch"] == row["epoch"]]
        assert float(row["chance"]) == kendalltau(*zip(*at, strict=True), alternative=side).pvalue
    figures = check.figures()
    assert figures["kendall_tau_interval"] == [float(rows[-1]["low"]), float(rows[-1]["high"])]
    assert (figures["kendall_tau_architectures"], figures["ranking"]) == (8, rows[-1]["verdict"])
    for name in ("kendall_tau", "kendall_tau_macs"):
        assert figures[name] == float(rows[-1][name])
    assert float(CSVTable(tmp_path / "metrics.csv").read()[-1]["rank/kendall_tau_macs"]) == pytest.approx(
        figures["kendall_tau_macs"]
    )


def test_the_truth_of_another_seed_is_the_ceiling(tmp_path: Path) -> None:
    made = StandAlone(cache_dir=str(tmp_path / "cache"), epochs=1)
    check = RankCheck(made, architectures=6, every_n_epochs=1, top_k=2)
    module, data = toy_search(), ToyData()
    fit(module, data, tmp_path, epochs=1, callbacks=[check])
    fresh = StandAlone(cache_dir=str(tmp_path / "other"), epochs=1)
    first, other = (fresh(module.space, check.architectures, data, module.task, module.seed + i) for i in range(2))
    assert first == check.truths != other
    [row] = CSVTable(tmp_path / "rank.csv").read()
    assert check.figures()["kendall_tau_truth"] == float(row["kendall_tau_truth"])
    assert float(row["kendall_tau_truth"]) == pytest.approx(kendalltau(first, other).statistic)


def test_a_truth_that_is_known_once_has_no_ceiling(tmp_path: Path) -> None:
    for check in (RankCheck(worth), RankCheck(StandAlone(cache_dir=str(tmp_path), epochs=1), ceiling=False)):
        fit(toy_search(), ToyData(), tmp_path / str(check.ceiling), epochs=1, callbacks=[check])
        assert check.figures()["kendall_tau_truth"] is None


def test_scores_without_training_are_compared_with_the_same_truth(tmp_path: Path) -> None:
    """One row for each, whatever the number of checks; the scores are those of the functions on fresh networks."""
    names = ["macs", "snip", "az_nas"]
    module, check = toy_search(), RankCheck(worth, architectures=8, every_n_epochs=1, top_k=3, proxies=names)
    fit(module, ToyData(), tmp_path, epochs=2, callbacks=[check])
    rows = CSVTable(tmp_path / "rank_proxies.csv").read()
    assert [row["proxy"] for row in rows] == names
    assert "rank_proxies.csv" in check.files
    assert "rank_proxies.csv" not in RankCheck.files
    told = check.figures()["rank_proxies"]
    assert [(entry["proxy"], entry["spearman"], entry["precision_at_k"]) for entry in told] == [
        (row["proxy"], float(row["spearman"]), float(row["precision_at_k"])) for row in rows
    ]
    networks = []
    for architecture in check.architectures:
        with seeded(module.seed, "truth", architecture.key):
            networks.append(module.space.network(architecture))
    batch = first_images(module.data, 64)
    expected = [snip(network, batch, functional.cross_entropy) for network in networks]
    assert check.proxy_scores["snip"] == pytest.approx(expected)
    for row in rows:
        scores, truth = check.proxy_scores[row["proxy"]], check.truths
        assert float(row["kendall_tau"]) == pytest.approx(kendalltau(scores, truth).statistic)
        assert float(row["spearman"]) == pytest.approx(spearmanr(scores, truth).statistic)
        best, found = (set(np.argsort(values)[-3:]) for values in (truth, scores))
        if len(set(scores)) == len(scores):  # the top is not defined where scores are equal
            assert float(row["precision_at_k"]) == pytest.approx(len(best & found) / 3)
        assert 0 <= float(row["precision_at_k"]) <= 1
        assert (row["k"], row["architectures"]) == ("3", "8")


def test_scores_of_networks_of_words_are_refused_before_the_truth_is_trained(tmp_path: Path) -> None:
    module = toy_search()
    module.space.input_dtype = torch.int64
    check = RankCheck(lambda *_: pytest.fail("the truth was trained first"), proxies=["snip"])
    with pytest.raises(ConfigError, match=r"rank_check.proxies: scores are of networks of images"):
        fit(module, ToyData(), tmp_path, epochs=1, callbacks=[check])


def test_a_space_with_fewer_architectures_than_asked_for_checks_them_all(tmp_path: Path) -> None:
    check = RankCheck(worth, architectures=50, every_n_epochs=1, top_k=3)
    fit(toy_search(), ToyData(), tmp_path, epochs=1, callbacks=[check])
    assert len(check.architectures) == 9
    assert ToySpace().best in check.architectures


def test_the_check_of_a_run_that_an_earlier_version_began_goes_on(tmp_path: Path) -> None:
    module, first = toy_search(), RankCheck(worth, architectures=6, every_n_epochs=1, top_k=2)
    trainer = fit(module, ToyData(), tmp_path, epochs=1, callbacks=[first])
    assert first.figures()["kendall_tau_architectures"] == 6
    resumed = RankCheck(worth, architectures=6, every_n_epochs=1, top_k=2)
    resumed.setup(trainer, module, "fit")
    old = {"rows": first.state_dict()["rows"], "truths": first.truths, "tau": 0.5, "tau_macs": 0.1}
    resumed.load_state_dict(old)
    assert resumed.figures() == first.figures()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"kendall_tau": 0.6, "verdict": "ranks worse than multiply-adds alone"}, r"worse than multiply.*wrong scores"),
        ({"kendall_tau": 0.6, "score_spread": 0.01, "score_error": 0.02}, r"3 arch.*0\.0100, less than.*0\.0200"),
        ({"kendall_tau": 0.6, "score_spread": 0.02, "score_error": 0.01}, "^$"),
        ({"kendall_tau": None, "score_spread": 0.0, "score_error": 0.01}, "^$"),
    ],
)
def test_what_speaks_against_a_search_is_said(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    module, check = toy_search(), RankCheck(worth, architectures=3, every_n_epochs=9, top_k=2)
    trainer = fit(module, ToyData(), tmp_path, epochs=1)
    check.setup(trainer, module, "fit")
    check.record("rank.csv", dict.fromkeys(check.files["rank.csv"], 1.0) | {"architectures": 3, "verdict": ""} | row)
    assert re.search(said, "; ".join(check.doubts()))


def test_ranks_of_too_few_architectures_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"architectures=2.*architectures >= 3"):
        RankCheck(worth, architectures=2, top_k=1)
    with pytest.raises(ConfigError, match="top_k=9"):
        RankCheck(worth, architectures=8, top_k=9)
