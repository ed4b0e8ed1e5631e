"""Files that an earlier run left in a folder."""

from pathlib import Path

import pytest

from lightning_nas.errors import ConfigError
from lightning_nas.experiment.folder import check_free, forget


@pytest.mark.parametrize(("checkpoint", "kept"), [(None, "trials.old.jsonl"), ("last", "trials.jsonl")])
def test_a_ledger_of_trials_is_never_deleted(
    checkpoint: str | None, kept: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "trials.jsonl").write_text("days of training")
    (tmp_path / "architecture.json").touch()
    forget(tmp_path, ["search"], checkpoint)
    assert [file.name for file in tmp_path.glob("trials*")] == [kept]
    assert (tmp_path / kept).read_text() == "days of training"
    assert (tmp_path / "architecture.json").exists() == (checkpoint is not None)
    assert ("ckpt_path=last" in caplog.text) == (checkpoint is None)


@pytest.mark.parametrize(
    ("left", "stages", "checkpoint", "what"),
    [
        ("architecture.json", ["search", "retrain"], None, "the answer of an earlier run"),
        ("checkpoints/last.ckpt", ["search"], None, "an unfinished search"),
        ("checkpoints/last.ckpt", ["search"], "elsewhere/last.ckpt", "an unfinished search"),
        ("checkpoints/last.ckpt", ["search"], "last", None),
        ("trials.jsonl", ["search"], None, None),  # kept, see above
        ("config.yaml", ["search"], None, None),
        ("architecture.json", ["retrain"], None, None),  # that of a search, retrained now
        ("retrain/checkpoints/last.ckpt", ["retrain"], None, "an earlier retraining"),
        ("retrain/checkpoints/last.ckpt", ["retrain"], "last", None),
        ("result.json", ["ranking"], None, "the result of an earlier run"),
    ],
)
def test_what_an_earlier_run_found_is_not_overwritten(
    left: str, stages: list[str], checkpoint: str | None, what: str | None, tmp_path: Path
) -> None:
    (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left).touch()
    if what is None:
        check_free(tmp_path, stages, checkpoint)
        return
    with pytest.raises(ConfigError, match=f"{what}, which is not overwritten; name another folder"):
        check_free(tmp_path, stages, checkpoint)
