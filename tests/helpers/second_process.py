"""The second process of a distributed run as a fork, where Lightning starts an interpreter that imports everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from commands import MODULE, code_of
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.strategies.launchers import subprocess_script


class Second(subprocess.Popen[bytes]):
    """A fork made before the run began, which becomes the process that Lightning asks ``subprocess.Popen`` for."""

    def __init__(self) -> None:
        asked, self._ask = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(self._ask)
            _serve(asked)
        os.close(asked)
        super().__init__(["true"])  # for its attributes; waiting and signals are to be about the fork
        super().wait()
        self.pid, self.returncode = pid, None  # type: ignore[assignment]

    def __call__(self, command: list[str], env: dict[str, str], cwd: str | None) -> Second:
        assert command[:3] == [sys.executable, "-m", MODULE], command
        with os.fdopen(self._ask, "w") as pipe:
            json.dump({"arguments": command[3:], "env": env, "cwd": cwd}, pipe)
        return self


def _serve(asked: int) -> None:
    """Wait to be asked for, and become the process; end where the one that could ask has ended."""
    with os.fdopen(asked) as pipe:
        text = pipe.read()
    if not text:
        os._exit(0)
    wanted: dict[str, Any] = json.loads(text)
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["cwd"] or ".")
    rank_zero_only.rank = int(os.environ["LOCAL_RANK"])  # which Lightning reads when it is imported
    os._exit(code_of(wanted["arguments"]))


def fork_the_second() -> None:
    """In the first process, before its run begins; a file in the working folder names the second one."""
    second = Second()
    Path(f"second-of-{os.getpid()}").write_text(f"{second.pid}\n")
    subprocess_script.subprocess = SimpleNamespace(Popen=second)  # type: ignore[attr-defined]
