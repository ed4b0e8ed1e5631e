"""Next steps: commands and lines of Python to copy, for the folder of a run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_nas.report.candidates import read_answer
from lightning_nas.report.parts import Block, Part, Section, Words

_OWN = ("hydra.run.dir=", "ckpt_path=", "architecture=", "stages=")  # overrides that a further command sets itself


def next_steps(folder: Path, result: Mapping[str, Any]) -> Section | None:
    """Retrain the answer, resume the search, use the architecture; None for a folder without answer and checkpoint.

    Commands repeat the overrides that Hydra keeps in ``.hydra``; a run from Python has lines of Python only.
    """
    given, answer = _overrides(folder), read_answer(folder)
    parts: list[Part] = []
    if answer is not None and given is not None:
        kept = [override for override in given if not override.startswith("retrain.epochs=")]
        own = ("stages=[retrain]", "architecture=architecture.json", "retrain.epochs=100", "hydra.run.dir=retrained")
        parts += [Words("Retrain the answer for longer, into the folder retrained:"), Block(_command(*kept, *own))]
    if (folder / "checkpoints").is_dir() and given is not None:
        command = _command(*given, "hydra.run.dir=.", "ckpt_path=last")
        parts += [Words("Resume the search if it was interrupted:"), Block(command)]
    if (folder / "retrain" / "network.pt").is_file():
        command = shlex.join(["lightning-nas", "export", ".", "formats=[onnx,py]"])
        parts += [Words("Take the trained network out, as ONNX and as one Python file:"), Block(command)]
    if answer is not None:
        start = ["import lightning_nas as ln", "", 'architecture = ln.Architecture.load("architecture.json")']
        lines = start + _python(_presets(folder), result.get("seed"))
        parts += [Words("Use the architecture in Python:"), Block("\n".join(lines))]
    return Section("What to do next", [Words("In the folder of this report:"), *parts]) if parts else None


def _python(presets: Mapping[str, str], seed: Any) -> list[str]:
    names = [presets.get(group) for group in ("dataset", "search_space", "strategy")]
    if not all(names):
        return [
            "# run: the ln.Run that wrote this folder",
            "network = run.space.network(architecture)  # fresh weights",
            "run.retrain(architecture)",
            "run.resume()  # if the search was interrupted",
        ]
    data, space, strategy = names
    seeded = f", seed={seed}" if isinstance(seed, int) else ""
    return [
        f'run = ln.Run("retrained", data="{data}", space="{space}", strategy="{strategy}"{seeded})',
        "network = run.space.network(architecture)  # fresh weights",
        "run.retrain(architecture)",
        "run.report()",
    ]


def _presets(folder: Path) -> dict[str, str]:
    """The presets the run was started with, as Hydra keeps them: group and name on a line below ``choices``."""
    path = folder / ".hydra" / "hydra.yaml"
    if not path.is_file():
        return {}
    _, _, choices = path.read_text(encoding="utf-8", errors="replace").partition("\n    choices:\n")
    return dict(re.findall(r"^      (\w+): (\w+)$", choices, flags=re.MULTILINE))


def _command(*overrides: str) -> str:
    return "lightning-nas run " + " ".join(map(shlex.quote, overrides))


def _overrides(folder: Path) -> list[str] | None:
    """The overrides the run was started with, as Hydra keeps them: a YAML list of plain or quoted strings."""
    path = folder / ".hydra" / "overrides.yaml"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [_unquoted(line[2:].strip()) for line in lines if line.startswith("- ")]
    return [override for override in said if not override.lstrip("+").startswith(_OWN)]


def _unquoted(text: str) -> str:
    """The content of a YAML scalar on one line.

    >>> _unquoted("'a=''b'''"), _unquoted("a=b")
    ("a='b'", 'a=b')
    """
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text
