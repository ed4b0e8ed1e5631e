"""Searches on scores that cannot work are refused before data are read."""

from typing import Any

import pytest

from lightning_nas.errors import ConfigError
from lightning_nas.experiment.pairs import Parts
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace
from lightning_nas.strategies.multi_trial.local_search import LocalSearch
from lightning_nas.strategies.multi_trial.proxy_search import ProxySearch
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.lookup import TableEngine
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.trials.proxy_child import ProxyChild
from lightning_nas.trials.training_losses import TrainingLosses


def parts(strategy: type, judge: type | None, *, space: type = NASBench201Space, engine: type = SerialEngine) -> Parts:
    settings: dict[str, Any] = {"child": judge is not None, "judge": judge, "engine": engine}
    return Parts(strategy, space, "some", **settings)


@pytest.mark.parametrize("strategy", [ProxySearch, LocalSearch])
@pytest.mark.parametrize("judge", [ProxyChild, TrainingLosses])
def test_every_search_by_trials_goes_with_every_score(strategy: type, judge: type) -> None:
    parts(strategy, judge).check()


@pytest.mark.parametrize(("judge", "engine"), [(Child, SerialEngine), (None, TableEngine)])
def test_a_search_on_a_score_neither_trains_nor_looks_up(judge: type | None, engine: type) -> None:
    with pytest.raises(ConfigError, match=r"strategy=proxy searches on a score.*child=proxy with proxy=NAME"):
        parts(ProxySearch, judge, engine=engine).check()
    parts(LocalSearch, judge, engine=engine).check()


@pytest.mark.parametrize("strategy", [ProxySearch, LocalSearch])
def test_networks_of_words_have_no_scores_but_losses(strategy: type) -> None:
    with pytest.raises(ConfigError, match=r"ProxyChild scores networks of images, and those of search_space=some"):
        parts(strategy, ProxyChild, space=DARTSRNNSpace).check()
    parts(strategy, TrainingLosses, space=DARTSRNNSpace).check()
