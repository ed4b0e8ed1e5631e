import io
import json
import zipfile
from pathlib import Path

import pytest
import torch

from lightning_nas.errors import CheckpointError, EnvironmentFailure, InputError, shown
from lightning_nas.files import atomic, parse_json, read_file, write_json
from lightning_nas.spaces.own.built import read_weights


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


def test_a_file_with_members_that_inflate_is_refused_and_one_of_torch_is_not(tmp_path: Path) -> None:
    file, inflating = tmp_path / "w.pt", tmp_path / "inflating.pt"
    torch.save({"weight": torch.zeros(100_000)}, file)
    with zipfile.ZipFile(file) as stored, zipfile.ZipFile(inflating, "w", zipfile.ZIP_DEFLATED) as packed:
        for member in stored.infolist():
            packed.writestr(member.filename, stored.read(member))
    assert inflating.stat().st_size < file.stat().st_size / 50
    assert torch.load(inflating, weights_only=True)["weight"].shape == (100_000,), "torch itself unpacks it"
    assert read_weights(file)["weight"].shape == (100_000,)
    with pytest.raises(CheckpointError, match=r"model_weights: refused '.*inflating.pt': it holds compressed members"):
        read_weights(inflating)


def test_a_file_that_does_not_fit_into_the_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise MemoryError

    file = tmp_path / "sparse"
    file.write_bytes(b"123")
    monkeypatch.setattr(Path, "open", lambda *_: Full())
    with pytest.raises(InputError, match="sparse': 3 bytes do not fit into the memory"):
        read_file(file, limit=10)
