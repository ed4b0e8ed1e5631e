"""A device behind a command: what it may say, what goes wrong, and the table that comes of it."""

import shlex
import sys
from pathlib import Path

import pytest
import torch

from lightning_nas.errors import ConfigError, EnvironmentFailure, InputError, LatencyTableError
from lightning_nas.latency.command import Command, described
from lightning_nas.latency.measurement import Measurement, open_device, reached
from lightning_nas.latency.sources import File, Measured
from lightning_nas.latency.table import Conditions, LatencyTable
from lightning_nas.testing.toys import ToySpace


def saying(text: str) -> Command:
    pytest.importorskip("onnxscript")
    return Command(f"sh -c {shlex.quote(f'printf %b {shlex.quote(text)}')} {{model}}", timeout=60)


@pytest.mark.parametrize(
    ("said", "milliseconds"),
    [
        ("12.5", 12.5),
        ("12.5 ms", 12.5),
        ("12.5ms\\n\\n", 12.5),
        ("threads 4\\nlatency: 0.25 ms", 0.25),
        ("t=1.5e-2", 0.015),
    ],
)
def test_the_last_line_is_the_latency(said: str, milliseconds: float) -> None:
    assert saying(said).milliseconds("x.onnx") == milliseconds


@pytest.mark.parametrize(
    "said", ["", "fast", "nan", "latency: inf ms", "-3.0", "0", "12 13", "12 +- 1 ms", "12 s", "12.5\\ndone"]
)
def test_a_line_that_is_no_latency_is_one_error(said: str) -> None:
    with pytest.raises(
        EnvironmentFailure, match=r"^the command 'sh' ended with the line .*; legal: milliseconds above"
    ):
        saying(said).milliseconds("x.onnx")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("sh -c 'echo sorry >&2; exit 3' {model}", r"'sh' failed with exit code 3: 'sorry'"),
        ("no_such_program {model}", r"'no_such_program' cannot be run: No such file"),
        ("sh -c 'kill -9 $$' {model}", "exit code -9: 'it said nothing'"),
        ("sh -c 'sleep 600 & wait' {model}", r"'sh' took more than 0.2 s for one network; timeout=SECONDS"),
    ],
)
def test_a_command_that_fails_is_one_error(template: str, says: str) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(EnvironmentFailure, match=says):
        Command(template, timeout=0.2 if "sleep" in template else 60).milliseconds("x.onnx")


@pytest.mark.parametrize("template", ["", "  ", "./bench", "{model}", "./bench '{model}", "./bench { model }"])
def test_a_command_that_takes_no_file_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match=r"^command: got "):
        Command(template)
    with pytest.raises(LatencyTableError, match=r"^latency_table: command: got "):
        Measured("", device="command", command=template)


def test_a_command_is_run_without_a_shell_on_any_path(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    file, canary = tmp_path / "a b; $(touch x).onnx", tmp_path / "canary"
    file.touch()
    looks = "sh -c 'test -f \"$0\" && echo 4' {model}"
    assert Command(looks).milliseconds(file) == 4
    assert Command(f"printf 5 {{model}} ; touch {canary}").milliseconds(file) == 5
    assert not canary.exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"device": "cpu", "command": "./bench {model}"}, "command goes with device=command"),
        ({"device": "onnxruntime", "timeout": 3.0}, "timeout goes with device=command"),
        ({"device": "command", "command": "./bench {model}", "networks": 4}, "by=networks needs at least 5"),
        ({"device": "command", "command": "./bench {model}", "threads": 2}, "threads: got 2; device=command has 1"),
        ({"device": "onnxruntime", "dtype": "float16"}, "dtype: got 'float16'; device=onnxruntime has 'float32'"),
        ({"device": "onnxruntime", "memory_format": "contiguous"}, "memory_format: got 'contiguous'"),
        ({"by": "layers"}, "by: input should be 'operations' or 'networks', got 'layers'"),
    ],
)
def test_settings_that_do_not_fit_the_device_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(LatencyTableError, match=says):
        Measured("", **wrong)  # type: ignore[arg-type]


def test_a_device_that_is_not_here_is_not_reached() -> None:
    with pytest.raises(ConfigError, match="device=command needs the command on the command line or in Python"):
        open_device(Conditions(device="command"))
    assert reached(Conditions(device="command")) is None
    long = "./bench " + "x" * 300 + " {model}"
    assert reached(Measurement(device="command", command=long)) == described(long)
    assert len(described(long)) <= 200
    assert described(long) != described(long.replace("xx {", "xy {"))


PHONE = """\
import sys
import onnx
with open(sys.argv[2], "a") as log:
    log.write("run\\n")
prices = {"Conv": 0.7, "Relu": 0.1, "Gemm": 0.5, "ReduceMean": 0.3, "Expand": 0.2}
nodes = [node.op_type for node in onnx.load(sys.argv[1]).graph.node]
print("latency:", 1 + sum(prices.get(node, 0.05) for node in nodes), "ms")
"""
KNOWN = {"blur": 0.5, "swap": 0.05, "keep": 0.8}  # as torch writes them: mean and expand; slice; convolution and ReLU


@pytest.mark.usefixtures("quick")
def test_a_table_is_fitted_to_networks_that_a_command_timed(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    phone, log, space = tmp_path / "phone.py", tmp_path / "log", ToySpace()
    phone.write_text(PHONE)
    command = f"{shlex.quote(sys.executable)} {phone} {{model}} {log}"
    source = Measured(str(tmp_path / "cache"), device="command", command=command, networks=6)
    state = torch.get_rng_state()
    table = source(space)
    assert torch.get_rng_state().equal(state)
    assert len(log.read_text().splitlines()) == 3 * 7  # six networks and the reference, three rounds
    for first in KNOWN:
        for second in KNOWN:
            architecture = space.validate({"layer_1": first, "layer_2": second})
            true = 1 + 0.8 + 0.55 + KNOWN[first] + KNOWN[second]  # file, stem, head
            assert space.cost(architecture, table) == pytest.approx(true, rel=1e-3)
    assert table.regression is not None
    assert (table.regression.networks, table.regression.unseen) == (6, 0)
    assert "fitted to 6 networks: off by " in table.verdict
    assert table.conditions == Conditions(device="command")
    assert table.described() == described(command)

    assert source(space) == table  # from its file
    assert len(log.read_text().splitlines()) == 3 * 7
    [file] = (tmp_path / "cache").iterdir()
    assert LatencyTable.load(file) == File(str(file), command=command)(space) == table
    with pytest.raises(LatencyTableError, match=r"was made for 'command .*, not by the 'command other \{model\}'"):
        File(str(file), command="other {model}")(space)
    with pytest.raises(LatencyTableError, match="not for this device and these conditions"):
        Measured(path=str(file), device="command", command="other {model}")(space)


def test_too_small_a_space_is_measured_by_operations() -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(InputError, match=r"toy: 3 networks are too few for by=networks \(at least 5\)"):
        Measured("", device="command", command="true {model}")(ToySpace(1))
