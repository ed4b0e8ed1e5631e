import json
from pathlib import Path

import pytest

from lightning_nas.errors import EnvironmentFailure, InputError, shown
from lightning_nas.files import atomic, parse_json, write_json


def test_a_writer_that_fails_leaves_the_old_file_and_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), atomic(path) as file:
        file.write(str(1 / 0))
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_place_is_the_environments_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match="cannot write"):
        write_json(tmp_path / "file" / "f.json", {})


def test_numbers_json_does_not_have_are_neither_read_nor_written(tmp_path: Path) -> None:
    for text in ("NaN", "[Infinity]", '{"a": -Infinity}'):
        with pytest.raises(InputError, match="is not a number"):
            parse_json(text, where="x")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "f.json", float("nan"))
    assert not (tmp_path / "f.json").exists()


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31mred", "é", "x" * 1000, "\ud800"])
def test_foreign_text_is_shown_as_printable_ascii(text: str) -> None:
    assert shown(text).isascii()
    assert shown(text).isprintable()
    assert len(shown(text)) <= 80
