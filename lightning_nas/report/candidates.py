"""The architectures a run has scored, from its three kinds of tables, and which of them is the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_nas.architecture import Architecture
from lightning_nas.report.record import number, read_object, read_rows


@dataclass(frozen=True)
class Candidate:
    """An architecture with its score.

    Attributes:
        key: of the architecture.
        choices: its options as text.
        score: with shared weights, or the reward of a trial.
        cost: in the unit of the latency table; None without a table.
        kind: ``sampled``, ``derived``, ``candidate``, ``evolved`` or ``trial``.
        place: epoch, generation or trial.
        answer: whether it is the run's answer.
    """

    key: str
    choices: str
    score: float
    cost: float | None
    kind: str
    place: str
    answer: bool = False


def read_answer(folder: Path) -> Architecture | None:
    """The architecture of ``architecture.json``, None if there is none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / "architecture.json"
    return Architecture.load(path) if path.is_file() else None


def is_answer(row: Mapping[str, str], answer: Architecture | None) -> bool:
    """Whether a row's ``key`` or ``choices`` are those of the answer.

    >>> is_answer({"choices": "k3 skip"}, Architecture.of("toy", {"layer_1": "k3", "layer_2": "skip"}))
    True
    """
    if answer is None:
        return False
    return row.get("key") == answer.key or row.get("choices") == str(answer)


def read_candidates(folder: Path) -> list[Candidate]:
    """Each scored architecture once, with its latest score; trials that failed are left out."""
    answer = read_answer(folder)
    tables = (("architectures.csv", "", "score", "epoch"), ("evolution.csv", "evolved", "score", "generation"))
    found: dict[str, Candidate] = {}
    for file, kind, score, place in (*tables, ("trials.csv", "trial", "reward", "trial")):
        for row in read_rows(folder / file):
            value, key = number(row.get(score)), row.get("key", "")
            if value is not None and not row.get("failed"):
                said = kind or row.get("kind", "")
                cost, choices = number(row.get("cost")), row.get("choices", "")
                found.pop(key, None)
                found[key] = Candidate(key, choices, value, cost, said, row.get(place, ""), is_answer(row, answer))
    return list(found.values())


def cost_axis(folder: Path) -> str:
    """What the costs of the candidates are, by the run's latency table."""
    unit = str(read_object(folder / "latency_table.json").get("unit", "ms"))
    return "predicted latency (ms)" if unit == "ms" else unit
