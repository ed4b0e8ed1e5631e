import json
import os
import resource
import signal
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_nas.errors import CheckpointError, EnvironmentFailure
from lightning_nas.trials import ledger as module
from lightning_nas.trials.ledger import Ledger

EVENTS = [
    {"event": "proposed", "trial": 0, "architecture": {"a": "é"}, "info": {"p": 0.1 + 0.2}},
    {"event": "started", "trial": 0, "attempt": 1},
    {"event": "lost", "trial": 0, "attempt": 1, "reason": "its process\nwas killed"},
    {"event": "finished", "trial": 0, "attempt": 2, "curve": [1e-17, 0.75], "seconds": 3.5, "reason": None},
]


def write(path: Path, events: list[dict[str, Any]] = EVENTS) -> bytes:
    ledger = Ledger(path)
    for event in events:
        content = dict(event)
        ledger.append(content.pop("event"), content)
    ledger.close()
    return path.read_bytes()


def test_it_gives_back_what_was_written_in_order_and_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "folders" / "trials.jsonl"
    content = write(path, EVENTS[:2])
    assert Ledger(path).found == EVENTS[:2]
    assert write(path, EVENTS[2:]).startswith(content)
    again = Ledger(path)
    assert again.found == EVENTS
    assert again.events == len(EVENTS)
    before = b""
    for line, event in zip(path.read_bytes().splitlines(keepends=True), EVENTS, strict=True):
        crc = zlib.crc32(json.dumps(event, separators=(",", ":")).encode())
        assert json.loads(line) == {**event, "crc": f"{crc:08x}{zlib.crc32(before):08x}"}
        before += line


@given(st.data())
def test_a_line_with_another_byte_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("changed") / "trials.jsonl"
    content = bytearray(write(path))
    end = content.rindex(b"\n", 0, -1)  # a damaged last line is dropped
    place = data.draw(st.sampled_from([i for i in range(end) if content[i] != ord("\n")]))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"line \d of"):
        list(Ledger(path).read())


@pytest.mark.parametrize("begun", [True, False])
@given(st.data())
def test_lines_that_are_moved_removed_or_doubled_are_refused(
    tmp_path_factory: pytest.TempPathFactory, begun: bool, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("moved") / "trials.jsonl"
    if begun:
        ledger = Ledger(path)
        ledger.begin({"seed": "0"})
        ledger.close()
    lines = [*write(path).splitlines(keepends=True)]
    first, last = 0, len(lines) - 1
    place = data.draw(st.integers(first, last - 1))  # without its last lines a file is as a kill leaves it
    change = data.draw(st.sampled_from(["remove", "swap", "double", "strip", "strip and mend"]))
    changed = list(lines)
    if change == "remove":
        del changed[place]
    elif change == "swap":
        changed[place], changed[place + 1] = changed[place + 1], changed[place]
    elif change == "double":
        changed.insert(data.draw(st.integers(place + 1, last)), changed[place])
    else:
        content = json.loads(changed[place])
        crc = content.pop("crc")
        if change == "strip and mend":  # as an earlier version wrote it
            content["crc"] = crc[:8]
        changed[place] = json.dumps(content, separators=(",", ":")).encode() + b"\n"
    path.write_bytes(b"".join(changed))
    with pytest.raises(CheckpointError, match=r"line \d of .* (after other lines|lacks its checksum|is not an event)"):
        list(Ledger(path).read())
    assert path.read_bytes() == b"".join(changed)


def test_checksums_that_are_stripped_from_the_last_line_or_from_all_are_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl")
    ledger.begin({"seed": "0"})
    ledger.close()
    lines = write(ledger.path).splitlines()
    plain = [json.dumps({k: v for k, v in json.loads(line).items() if k != "crc"}).encode() for line in lines]
    for changed in ([*lines[:-1], plain[-1]], plain):
        ledger.path.write_bytes(b"\n".join(changed) + b"\n")
        with pytest.raises(CheckpointError, match="lacks its checksum"):
            list(Ledger(ledger.path).read())


@pytest.mark.parametrize("summed", [True, False])
def test_files_of_earlier_versions_are_read_and_continued(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, summed: bool
) -> None:
    path = tmp_path / "trials.jsonl"
    began = {"event": "began", "conditions": {"seed": "0"}}
    with path.open("w") as file:
        for event in [began, *EVENTS[:2]]:
            text = json.dumps(event, separators=(",", ":"))
            crc = f"{zlib.crc32(text.encode()):08x}"
            file.write(f'{text[:-1]},"crc":"{crc}"}}\n' if summed else text + "\n")
    old = Ledger(path)
    old.begin({"seed": "0"})
    assert old.found == EVENTS[:2]
    assert "written by an earlier version" in caplog.text
    old.close()
    content = write(path, EVENTS[2:])
    for _ in range(2):
        assert Ledger(path).found == EVENTS
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))  # a line of before is seen too
    with pytest.raises(CheckpointError, match=r"line 3 of .* after other lines"):
        list(Ledger(path).read())


@given(st.data())
def test_cut_off_anywhere_it_holds_the_whole_lines_and_goes_on_after_them(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "trials.jsonl"
    content = write(path)
    end = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:end])
    whole = content[:end].count(b"\n")
    assert Ledger(path).found == EVENTS[:whole]
    assert write(path, EVENTS[whole:]) == content


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"null",
        b'{"event": "proposed"}',
        b'{"event": "proposed", "trial": true}',
        b'{"event": "proposed", "trial": "0"}',
        b'{"event": "failed", "trial": -1}',
        b'{"event": "failed", "trial": 2147483648}',
        b'{"event":"failed","trial":0,"crc":"00000000"}',
        b'{"event":"failed","trial":0,"crc":1}',
        b'{"event": "pickled", "trial": 0}',
        b'{"event": "failed", "trial": 0, "trial": 1}',
        b'{"event": "failed", "trial": 0, "seconds": NaN}',
        b'{"event": "failed", "trial": 0',
        b"\xff\xfe",
        b"\0" * 40,
        b"",
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_event_is_refused_and_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "trials.jsonl"
    first = write(path, EVENTS[:1])
    path.write_bytes(first + line + b"\n" + first)
    with pytest.raises(CheckpointError, match="line 2 of") as caught:
        list(Ledger(path).read())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert path.read_bytes() == first + line + b"\n" + first  # for whoever wants to mend it


def test_zeros_that_a_power_cut_left_at_the_end_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    content = write(path)
    path.write_bytes(content + b"\0" * 4096)
    assert Ledger(path).found == EVENTS
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"\0" * 100, b'{"event":"failed","trial":0,' + b"\0" * 9 + b"}"])
def test_a_damaged_line_at_the_end_is_dropped_although_it_is_whole(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "trials.jsonl"
    content = write(path)
    path.write_bytes(content + line + b"\n")
    assert Ledger(path).found == EVENTS
    assert path.read_bytes() == content


def test_sync_flushes_only_if_something_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "trials.jsonl", list[int]()
    monkeypatch.setattr(module.os, "fsync", lambda _: synced.append(path.stat().st_size))
    ledger = Ledger(path)
    synced.clear()  # the folder's, for the new file
    ledger.append("started", {"trial": 0, "attempt": 1})
    assert synced == []
    ledger.sync()
    ledger.sync()
    assert synced == [path.stat().st_size]
    assert synced[0] > 0
    ledger.append("lost", {"trial": 0, "attempt": 1, "reason": "x"})
    ledger.close()
    assert synced[1:] == [path.stat().st_size]


def test_numbers_that_json_does_not_know_are_not_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        ledger.append("finished", {"trial": 0, "curve": [float("nan")]})
    ledger.close()
    assert Ledger(ledger.path).found == []


def test_a_folder_that_cannot_be_made_is_the_environments_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match="cannot write"):
        Ledger(tmp_path / "file" / "trials.jsonl")


def test_a_disk_that_fills_up_ends_with_a_ledger_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    pid = os.fork()
    if pid == 0:  # in a process of its own, as the limit cannot be lifted
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        ledger = Ledger(path)
        try:
            for number in range(100):
                ledger.append("started", {"trial": number, "attempt": 1})
        except EnvironmentFailure:
            os._exit(4)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert path.stat().st_size == 1000  # a part of the last line
    assert [event["trial"] for event in Ledger(path).found] == list(range(path.read_bytes().count(b"\n")))


def test_a_ledger_of_other_conditions_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl")
    ledger.begin({"child.epochs": "1", "seed": "0"})
    ledger.append("started", {"trial": 0, "attempt": 1})
    ledger.close()
    again = Ledger(ledger.path)
    assert (again.opened_with, len(again.found)) == (2, 1)
    with pytest.raises(CheckpointError, match=r"child\.epochs was 1, is 20"):
        again.begin({"child.epochs": "20", "seed": "0"})
    again.begin({"child.epochs": "20", "seed": "0"}, allow_inexact=True)
    again.begin({"child.epochs": "1", "seed": "0"})
    assert again.path.read_text().count("began") == 1
