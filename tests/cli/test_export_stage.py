"""The stage export of a run."""

import json

import pytest
from commands import TINY, Commands

STAGES = "stages=[search,retrain,export]"


def test_the_stage_export_writes_the_formats_asked_for(cli: Commands) -> None:
    folder = cli.folder / "run"
    ended = cli.run(*TINY, STAGES, "export.formats=[py]", f"hydra.run.dir={folder}")
    assert ended.code == 0, ended.err[-2000:]
    assert "network.py" in ended.out
    record = json.loads((folder / "export" / "export.json").read_text())
    assert record["files"]["network.py"]["difference"] == 0
    assert "lightning-nas export . " in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["stages=[export]"], "stages: got ['export']; legal: "),
        ([STAGES, "export.formats=[onx]"], "export.formats: got ['onx']; legal: "),
        ([STAGES, "export.formats=[]"], "export.formats: got []; legal: "),
        ([STAGES, "export.format=[py]"], "did you mean 'formats'?"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_the_search(cli: Commands, overrides: list[str], said: str) -> None:
    assert said in cli.run(*TINY, *overrides).refused()
