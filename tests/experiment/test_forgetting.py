"""What an earlier run left in a folder."""

from pathlib import Path

import pytest

from lightning_nas.experiment.folder import forget


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
