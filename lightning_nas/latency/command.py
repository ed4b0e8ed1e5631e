"""A device behind a command of the user's, which is given an ONNX file and says how many milliseconds it takes."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from lightning_nas.errors import ConfigError, EnvironmentFailure, shown
from lightning_nas.files import replace_file
from lightning_nas.latency.device import Device, Stopwatch, Turn
from lightning_nas.latency.onnx_runtime import check_installed, onnx_file
from lightning_nas.onnx_model import WRITERS

MODEL = "{model}"
USUAL_TIMEOUT = 60.0
_ROUNDS = 3


class Command(Device):
    r"""Networks as a command runs them.

    The command is split into words as a shell would, and run without one; in each word ``{model}`` becomes the path of
    an ONNX file on this machine. Its last line is the latency of one forward pass in milliseconds, such as ``12.3``,
    ``12.3 ms`` or ``latency: 12.3 ms``.

    Args:
        template: the command.
        timeout: seconds that one run of it may take.
        batch_size: examples in the input of a file.
        min_run_time: seconds of running it for each network, at least; three times in any case.

    Raises:
        ConfigError: the command is empty, has no ``{model}``, or has a quotation mark that is not closed; the packages
            that write ONNX files are not installed.

    Example:
        >>> command = Command("printf 'loaded {model}\n12.5 ms'")
        >>> command.milliseconds("network.onnx")
        12.5
    """

    rounds = _ROUNDS

    def __init__(
        self, template: str, timeout: float = USUAL_TIMEOUT, batch_size: int = 1, min_run_time: float = 0.03
    ) -> None:
        check_command(template)
        check_installed("command", WRITERS)
        self.template, self.timeout = template, timeout
        self.batch_size, self.min_run_time = batch_size, min_run_time
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0

    def description(self) -> str:
        return described(self.template)

    def stopwatch(self, network: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype) -> Stopwatch:
        content, _ = onnx_file(network, input_shape, dtype, self.batch_size)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="lightning_nas_")
        self._files += 1
        file = Path(self._folder.name, f"network_{self._files}.onnx")
        replace_file(file, content)
        return _Runs(self, file)

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def milliseconds(self, file: str | Path) -> float:
        """Run the command on a file.

        Raises:
            EnvironmentFailure: it is not found, fails, takes too long, or does not end with a latency.
        """
        words = [word.replace(MODEL, str(file)) for word in shlex.split(self.template)]
        return _latency(self._output(words), words[0])

    def _output(self, words: list[str]) -> str:
        name = shown(words[0])
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own command, which no file can set
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # so that what it starts ends with it
            )
        except (OSError, ValueError) as reason:
            said = getattr(reason, "strerror", None) or reason
            raise EnvironmentFailure(f"the command {name} cannot be run: {said}") from None
        with process:
            try:
                output, errors = process.communicate(timeout=self.timeout)
            except subprocess.TimeoutExpired:
                _end(process)
                raise EnvironmentFailure(
                    f"the command {name} took more than {self.timeout:g} s for one network; timeout=SECONDS gives it "
                    "longer"
                ) from None
            except BaseException:
                _end(process)
                raise
        if process.returncode:
            last = (errors.strip().splitlines() or ["it said nothing"])[-1]
            raise EnvironmentFailure(f"the command {name} failed with exit code {process.returncode}: {shown(last)}")
        return output


class _Runs(Stopwatch):
    """One run of the command in a turn, and more while they take less than the turn's share of the time."""

    def __init__(self, device: Command, file: Path) -> None:
        self.device, self.file = device, file

    def turn(self) -> Turn:
        began, taken, wall = time.perf_counter(), list[float](), 0.0
        while not taken or wall < self.device.min_run_time / _ROUNDS:
            taken.append(self.device.milliseconds(self.file) / 1e3)
            wall = time.perf_counter() - began
        return Turn(min(taken), wall, wall)


def check_command(template: str) -> None:
    """Refuse a command that cannot be run on a file.

    Raises:
        ConfigError: it is empty, has no ``{model}``, or has a quotation mark that is not closed.
    """
    try:
        words = shlex.split(template)
    except ValueError as reason:
        raise ConfigError(f"command: got {shown(template)}: {str(reason).lower()}") from None
    if not words or MODEL in words[0] or not any(MODEL in word for word in words):
        raise ConfigError(
            f"command: got {shown(template)}; legal: a program and its arguments, one of them with {MODEL}, which "
            f"becomes the path of an ONNX file, e.g. 'ssh phone ./bench {MODEL}'"
        )


def described(template: str) -> str:
    """The device of a command, in at most 200 characters.

    >>> described("ssh phone ./bench {model}")
    'command ssh phone ./bench {model}'
    """
    text = ascii(f"command {template}")[1:-1]
    digest = hashlib.sha256(template.encode(errors="replace")).hexdigest()[:12]
    return text if len(text) <= 200 else f"{text[:180]}... {digest}"


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _latency(output: str, name: str) -> float:
    """The milliseconds on the last line of an output: its only number, and nothing but "ms" after it."""
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    words = [word for word in re.split(r"[\s:=,;]+", last.strip()) if word]
    if words and words[-1].lower() in ("ms", "milliseconds"):
        words.pop()
    *others, taken = [None, *map(_number, words[:-1]), *(_number(word.removesuffix("ms")) for word in words[-1:])]
    if taken is None or not math.isfinite(taken) or taken <= 0 or others != [None] * len(others):
        raise EnvironmentFailure(
            f"the command {shown(name)} ended with the line {shown(last)}; legal: milliseconds above 0 as the last "
            "and only number of its last line, e.g. 12.3 or 'latency: 12.3 ms'"
        )
    return taken


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
