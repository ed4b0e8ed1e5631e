"""Trials looked up in a table."""

from pathlib import Path

import pytest
from tables import write_table

from lightning_nas.cli.job import ConfiguredJob
from lightning_nas.errors import ConfigError, DataError
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.lookup import TableEngine
from lightning_nas.trials.job import ObjectsJob
from lightning_nas.trials.requests import Request

SPACE = NASBench201Space(image_size=8, in_channels=1)
JOB = ConfiguredJob({"search_space": {"_target_": "lightning_nas.spaces.nasbench201.space.NASBench201Space"}})
CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"


def test_a_trial_is_the_validation_accuracy_and_the_seconds_of_twelve_epochs(tmp_path: Path) -> None:
    engine = TableEngine(JOB, path=str(write_table(tmp_path)))
    for number in (4, 5):
        engine.submit(Request(number, 1, SPACE.from_string(CELL), seed=number))
    ended = engine.finished(0.0)
    assert [response.trial for response in ended] == [4, 5]
    assert ended[0].curve == pytest.approx((0.3,))  # three convolutions
    assert ended[0].seconds == pytest.approx(4 * 100 * 12 / 200)
    assert engine.finished(0.0) == []


def test_another_space_is_refused(tmp_path: Path) -> None:
    job = ObjectsJob(ToyData(), ToySpace(), Classification(), Child(epochs=1))
    with pytest.raises(ConfigError, match="nasbench201_small"):
        TableEngine(job, path=str(write_table(tmp_path)))


def test_without_a_file_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTNING_NAS_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"engine\.path=FILE"):
        TableEngine(JOB)


def test_a_file_that_is_not_there_is_named_with_the_option_that_names_another(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pass engine\.path=FILE"):
        TableEngine(JOB, path=str(tmp_path / "nowhere.npz"))


def test_another_table_is_another_search(tmp_path: Path) -> None:
    digests = []
    for best in ("nor_conv_3x3", "none", "none"):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        digests.append(TableEngine(JOB, path=str(write_table(folder, best))).digest)
    assert digests[0] != digests[1] == digests[2]


def test_a_table_without_the_columns_it_needs_is_refused(tmp_path: Path) -> None:
    file = write_table(tmp_path)
    with pytest.raises(DataError, match="c100"):
        TableEngine(JOB, path=str(file), dataset="cifar100")
