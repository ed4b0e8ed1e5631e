import copy
import hashlib
import json
import os
import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lightning_nas.errors import LatencyTableError
from lightning_nas.latency.table import Conditions, Entry, LatencyTable
from lightning_nas.spaces.chains.fbnet import FBNetSpace

GOOD: dict[str, Any] = {
    "format": 2,
    "unit": "ms",
    "device": "a phone",
    "versions": {"torch": "2"},
    "date": "2025-01-01",
    "space": "toy",
    "space_digest": "0123",
    "conditions": Conditions().model_dump(),
    "constant": 0.25,
    "steadiness": {"rounds": 9, "spread": 0.02, "unstable": 0.0, "drift": 0.01, "waiting": 0.0},
    "entries": {"conv": {"median": 2.0, "iqr": 0.1}, "skip": {"median": 0.5, "iqr": 0}},
}


def put(*keys: str, value: Any) -> str:
    content = copy.deepcopy(GOOD)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return json.dumps(content)


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LatencyTableError) as caught:
        LatencyTable.load(path)
    message = str(caught.value)
    assert message.isprintable()
    assert message.isascii()
    assert len(message) <= 400
    return message


def test_a_table_survives_its_file_and_is_a_mapping(tmp_path: Path) -> None:
    table = LatencyTable(**GOOD)
    table.save(tmp_path / "table.json")
    loaded = LatencyTable.load(tmp_path / "table.json")
    assert loaded == table
    assert loaded.digest == table.digest
    assert isinstance(loaded, Mapping)
    assert dict(loaded) == {"conv": 2.0, "skip": 0.5}
    assert json.loads((tmp_path / "table.json").read_text()) == GOOD


@pytest.mark.parametrize(
    ("content", "names"),
    {
        "negative": (put("entries", "conv", "median", value=-1.0), "entries.conv.median"),
        "negative range": (put("entries", "conv", "iqr", value=-1e-9), "entries.conv.iqr"),
        "NaN": (put("entries", "conv", "median", value=float("nan")), "NaN"),
        "infinity": (put("entries", "conv", "median", value=float("inf")), "Infinity"),
        "overflow": (json.dumps(GOOD).replace("2.0", "1e999"), "too large a number"),
        "a number of 400 digits": (json.dumps(GOOD).replace("2.0", "9" * 400), "too large a number"),
        "a number of 9000 digits": (json.dumps(GOOD).replace("2.0", "9" * 9000), "too large a number"),
        "a bool": (put("entries", "conv", "median", value=True), "True"),
        "text for a number": (put("entries", "conv", "median", value="2.0"), "'2.0'"),
        "null": (put("entries", "conv", "median", value=None), "None"),
        "a bare number": (put("entries", "conv", value=2.0), "entries.conv"),
        "microseconds": (put("unit", value="us"), "'us'"),
        "seconds": (put("unit", value="s"), "'ms', 'MACs' or 'params'"),
        "another version": (put("format", value=3), "format"),
        "no conditions": (put("conditions", value={}), "conditions.device"),
        "unknown key": (put("_target_", value="os.system"), "_target_"),
        "unknown key inside": (put("entries", "conv", "code", value="1"), "entries.conv.code"),
        "a negative constant": (put("constant", value=-0.1), "constant"),
        "more than all waiting": (put("steadiness", "waiting", value=1.5), "steadiness.waiting"),
        "no threads": (put("conditions", "threads", value=0), "conditions.threads"),
        "measured in no time": (put("entries", "conv", "median", value=0), "conv"),
        "duplicated key": (json.dumps(GOOD).replace('"skip"', '"conv"'), "'conv' occurs twice"),
        "a list": ("[]", "valid dictionary"),
        "empty": ("", "not valid JSON"),
        "deep": ("[" * 100_000, "not valid JSON"),
        "ten megabytes": (random.Random(0).randbytes(10 * 2**20), "bytes; legal: at most"),
        "noise": (random.Random(1).randbytes(2**20), "not UTF-8"),
        "control characters in a key": (put("entries", "\x1b[2J\n\u202e", value=1), "entries."),
        "a long key": (put("entries", "x" * 100_000, value=1), "entries.xxx"),
        "half a surrogate": (put("device", value="\ud800"), "device"),
        "a long device": (put("device", value="x" * 10_000), "device"),
    }.values(),
)
def test_a_wrong_file_is_one_line(tmp_path: Path, content: str | bytes, names: str) -> None:
    assert names in refusal(tmp_path / "table.json", content)


def test_a_file_of_the_first_format_has_no_constant(tmp_path: Path) -> None:
    old = {key: value for key, value in GOOD.items() if key not in ("constant", "steadiness")} | {"format": 1}
    (tmp_path / "table.json").write_text(json.dumps(old))
    table = LatencyTable.load(tmp_path / "table.json")
    assert (table.format, table.constant, table.steadiness) == (2, 0.0, None)
    text = json.dumps(["ms", {"conv": [2.0, 0.1], "skip": [0.5, 0.0]}], sort_keys=True, separators=(",", ":"))
    assert table.digest == hashlib.sha256(text.encode()).hexdigest()  # as it was, so that its runs resume


def test_a_factor_is_kept_in_the_file_and_one_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(json.dumps(GOOD | {"factor": 1.25}))
    table = LatencyTable.load(tmp_path / "table.json")
    assert (table.factor, dict(table)) == (1.25, {"conv": 2.0, "skip": 0.5})  # the entries contain it
    table.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == GOOD | {"factor": 1.25}
    assert "factor" in refusal(tmp_path / "table.json", json.dumps(GOOD | {"factor": 0.0}))
    LatencyTable(**GOOD, factor=1.0).save(tmp_path / "again.json")
    assert "factor" not in json.loads((tmp_path / "again.json").read_text())


@pytest.mark.parametrize("key", GOOD)
def test_a_file_says_everything(tmp_path: Path, key: str) -> None:
    assert key in refusal(tmp_path / "table.json", json.dumps({k: v for k, v in GOOD.items() if k != key}))


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LatencyTableError, match=r"nothing.json.*No such file"):
        LatencyTable.load(tmp_path / "nothing.json")


@pytest.mark.parametrize("kept", range(0, len(json.dumps(GOOD)), 29))
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    assert "table.json" in refusal(tmp_path / "table.json", json.dumps(GOOD)[:kept])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from([*GOOD, "entries/conv", "entries/conv/median", "conditions/threads"]), value=JSON)
def test_any_value_anywhere_loads_faithfully_or_is_one_line(tmp_path: Path, place: str, value: Any) -> None:
    path, content = tmp_path / "table.json", put(*place.split("/"), value=value)
    path.write_text(content)
    try:
        table = LatencyTable.load(path)
    except LatencyTableError:
        refusal(path, content)
    else:
        assert table.model_dump(mode="json") == json.loads(content)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, len(json.dumps(GOOD)) - 1), byte=st.integers(0, 255))
def test_a_flipped_byte_loads_or_is_one_line(tmp_path: Path, position: int, byte: int) -> None:
    path, content = tmp_path / "table.json", bytearray(json.dumps(GOOD).encode())
    content[position] = byte
    path.write_bytes(content)
    try:
        LatencyTable.load(path)
    except LatencyTableError:
        refusal(path, bytes(content))


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_no_file_runs_code(tmp_path: Path) -> None:
    marker = tmp_path / "canary"
    attack = pickle.dumps(Canary(marker))
    pickle.loads(attack)
    marker.rmdir()  # the attack works where it is let in
    code = f"__import__('os').mkdir({str(marker)!r})"
    target = {"_target_": "os.mkdir", "path": str(marker)}
    tagged = f"!!python/object/apply:os.mkdir [{str(marker)!r}]"
    for content in (attack, code, json.dumps(target), tagged, put("device", value=target), put("entries", value=code)):
        refusal(tmp_path / "table.json", content)
    assert not marker.exists()


def test_a_table_of_another_space_is_refused(space: FBNetSpace, table: LatencyTable) -> None:
    assert table.check(space) is table
    wider = FBNetSpace("toy", image_size=16, in_channels=1, num_classes=10, stem=(8, 1), stages=[(8, 2, 1)], head=16)
    with pytest.raises(LatencyTableError, match="digest"):
        table.check(wider)


def test_missing_operations_are_named_up_to_five(space: FBNetSpace, table: LatencyTable) -> None:
    keys = list(space.operations())
    rest = {key: table.entries[key] for key in keys[7:]}
    with pytest.raises(LatencyTableError) as caught:
        table.model_copy(update={"entries": rest}).check(space)
    assert "lacks 7 operations" in str(caught.value)
    assert all(key in str(caught.value) for key in keys[:5])
    assert keys[5] not in str(caught.value)
    assert len(str(caught.value)) <= 400


def test_the_digest_follows_the_numbers_and_nothing_else() -> None:
    table = LatencyTable(**GOOD)
    assert LatencyTable(**GOOD | {"device": "another", "date": ""}).digest == table.digest
    backwards = dict(reversed(GOOD["entries"].items()))
    assert LatencyTable(**GOOD | {"entries": backwards}).digest == table.digest
    slower = GOOD["entries"] | {"conv": Entry(median=2.0000001, iqr=0.1)}
    assert LatencyTable(**GOOD | {"entries": slower}).digest != table.digest
    assert LatencyTable(**GOOD | {"unit": "MACs"}).digest != table.digest
    assert LatencyTable(**GOOD | {"constant": 0.26}).digest != table.digest


def test_a_table_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        LatencyTable(**GOOD).unit = "MACs"  # type: ignore[misc]
