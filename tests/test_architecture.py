import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InvalidArchitecture
from lightning_nas.spaces.chains.fbnet import FBNetSpace

SPACE = FBNetSpace("small", image_size=8, in_channels=1, num_classes=10, stem=(8, 1), stages=[(8, 2, 1)], head=8)
GOOD = {"format": 1, "space": "small", "choices": {"layer_01": "k3_e1", "layer_02": "skip"}}

names = st.text(min_size=1, max_size=12)
architectures = st.builds(Architecture.of, names, st.dictionaries(names, st.text(max_size=12), min_size=1, max_size=5))


@given(architectures)
def test_any_architecture_survives_text_and_keeps_its_order_and_key(architecture: Architecture) -> None:
    back = Architecture.from_json(architecture.to_json())
    assert back == architecture
    assert back.choices == architecture.choices
    assert back.key == architecture.key
    assert hash(back) == hash(architecture)


def test_the_key_is_the_documented_hash_and_the_same_in_another_process() -> None:
    architecture = Architecture("s", (("a", "x"), ("b", "y")))
    text = '["s",[["a","x"],["b","y"]]]'
    assert architecture.key == hashlib.sha256(text.encode()).hexdigest()[:16]
    code = "from lightning_nas.architecture import Architecture as A; print(A('s', (('a', 'x'), ('b', 'y'))).key)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == architecture.key


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_mutated_file_is_read_or_refused_with_one_printable_line(data: st.DataObject) -> None:
    content = json.loads(json.dumps(GOOD))
    where = data.draw(st.sampled_from(["top", "choices"]))
    target = content if where == "top" else content["choices"]
    key = data.draw(st.sampled_from([*target, "other\nkey"]) | st.text(max_size=8))
    if data.draw(st.booleans()):
        target[key] = data.draw(json_values)
    else:
        target.pop(key, None)
    _read_or_refuse(json.dumps(content))


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_noise_is_refused_with_one_printable_line(noise: bytes) -> None:
    _read_or_refuse(noise.decode("latin-1"))


def _read_or_refuse(text: str) -> None:
    try:
        architecture = SPACE.validate(Architecture.from_json(text))
    except InvalidArchitecture as error:
        message = str(error)
        assert message.isprintable()
        assert message.isascii()
        assert len(message) <= 400
    else:
        assert json.loads(text) == architecture.to_dict()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"format": ' + "1" * 5000 + ', "space": "small", "choices": {}}',
        '{"format": 1, "format": 1, "space": "small", "choices": {}}',
        '{"format": NaN, "space": "small", "choices": {}}',
        '{"format": true, "space": "small", "choices": {}}',
        '{"format": 2, "space": "small", "choices": {}}',
        "\ufeff" + json.dumps(GOOD),
        json.dumps(GOOD) + "\0",
        '{"format": 1, "space": "small", "choices": {"layer_01": "\\ud800", "layer_02": "skip"}}',
        "",
    ],
)
def test_hostile_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidArchitecture) as caught:
        SPACE.validate(Architecture.from_json(text))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 400


def test_files_are_read_back_and_absent_large_or_binary_ones_refused(tmp_path: Path) -> None:
    architecture = Architecture.from_dict(GOOD)
    architecture.save(tmp_path / "a.json")
    assert Architecture.load(tmp_path / "a.json") == architecture
    with pytest.raises(InvalidArchitecture, match="No such file"):
        Architecture.load(tmp_path / "b.json")
    (tmp_path / "big.json").write_bytes(b"x" * 10_000_000)
    with pytest.raises(InvalidArchitecture, match="10000000 bytes"):
        Architecture.load(tmp_path / "big.json")
    (tmp_path / "binary.json").write_bytes(bytes(range(256)))
    with pytest.raises(InvalidArchitecture, match="UTF-8"):
        Architecture.load(tmp_path / "binary.json")
