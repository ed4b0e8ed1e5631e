"""What to do next: commands and lines of Python to copy, for the folder of a run."""

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
    """Retrain the answer, use its file, resume the search; None for a folder with neither answer nor checkpoint."""
    answer = read_answer(folder)
    given = _overrides(folder)
    parts: list[Part] = []
    if answer is not None:
        named = _named(result) or given
        command = _command("stages=[retrain]", "architecture=architecture.json", *named, "retrain.epochs=100",
                           "hydra.run.dir=retrained")  # fmt: skip
        parts += [Words("Retrain the answer for longer, into the folder retrained:"), Block(command)]
    if (folder / "checkpoints").is_dir() and given:
        command = _command(*given, "hydra.run.dir=.", "ckpt_path=last")
        parts += [Words("Resume the search where it was interrupted:"), Block(command)]
    if answer is not None:
        python = ["import lightning_nas as ln", "", 'architecture = ln.Architecture.load("architecture.json")']
        parts += [Words("Use the architecture in Python:"), Block("\n".join(python + _run(result)))]
    if not parts:
        return None
    return Section("What to do next", [Words("Run these in the folder of this report."), *parts])


def _named(result: Mapping[str, Any]) -> list[str]:
    """The overrides that name the parts of the run, where result.json knows them as presets."""
    keys = {"strategy": "strategy", "search_space": "search_space", "dataset": "dataset"}
    named = [f"{group}={result[key]}" for group, key in keys.items() if _is_preset(result.get(key))]
    return named if _is_preset(result.get("search_space")) and _is_preset(result.get("dataset")) else []


def _is_preset(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"\w+", name) is not None


def _run(result: Mapping[str, Any]) -> list[str]:
    """Lines that open the folder as a run."""
    names = [result.get(key) for key in ("dataset", "search_space", "strategy")]
    if not all(map(_is_preset, names)):
        return []
    data, space, strategy = names
    seed = result.get("seed")
    seeded = f", seed={seed}" if isinstance(seed, int) else ""
    return [
        f'run = ln.Run(".", data="{data}", space="{space}", strategy="{strategy}"{seeded})',
        "network = run.space.network(architecture)  # fresh weights",
        "run.resume()   # the search, where it was interrupted",
        "run.retrain()  # the answer, from scratch",
    ]


def _command(*overrides: str) -> str:
    return "lightning-nas run " + " ".join(map(shlex.quote, overrides))


def _overrides(folder: Path) -> list[str]:
    """The overrides the run was started with, as Hydra keeps them: a YAML list of plain or quoted strings."""
    path = folder / ".hydra" / "overrides.yaml"
    if not path.is_file():
        return []
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
