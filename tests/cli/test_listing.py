"""The lists of the command line hold every option there is, a sentence each, and fit on a terminal."""

import json
from pathlib import Path

import pytest
import torch

from lightning_nas import zoo
from lightning_nas.cli import presets
from lightning_nas.cli.command import conf_dir
from lightning_nas.cli.listing import LISTS, main, table
from lightning_nas.latency.macs import count_params


@pytest.mark.parametrize("what", LISTS)
def test_a_list_has_every_option_and_a_sentence_on_each(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([what])
    lines = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    assert [name for name, _ in lines] == sorted(file.stem for file in Path(conf_dir(), LISTS[what]).glob("*.yaml"))
    for name, text in lines:
        assert text.strip().endswith("."), name
        assert not text.strip().startswith("#"), name


def test_a_sentence_does_not_end_at_an_abbreviation() -> None:
    assert presets.first_sentence("Of Liu et al. 2019, e.g. cells. More.") == "Of Liu et al. 2019, e.g. cells."


def test_no_line_is_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lightning_nas.cli.listing.line_width", lambda: 80)
    for what in (*LISTS, "zoo"):
        main([what])
        assert max(map(len, capsys.readouterr().out.splitlines()[:-2])) <= 80


def test_rows_go_on_below_their_text() -> None:
    assert table([("a", "one two three"), ("long", "x")], 14) == "a     one two\n      three\nlong  x"


def test_the_zoo_is_listed_with_paper_and_size(capsys: pytest.CaptureFixture[str]) -> None:
    main(["zoo"])
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert tuple(lines) == zoo.names()
    assert lines["fbnet_c"].startswith("5.57 M parameters, 1000 classes: FBNet-C (arXiv:1812.03443)")


@pytest.mark.parametrize("name", zoo.names())
def test_a_listed_size_is_that_of_the_network(name: str) -> None:
    file = Path(zoo.__file__).parent / f"{name}.json"
    entry = json.loads(file.read_text(encoding="utf-8"))
    with torch.device("meta"):
        assert count_params(zoo.network(name, entry["classes"])) == entry["params"]
