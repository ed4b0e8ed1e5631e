"""The trials of a search that trains every architecture, and their rewards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from lightning_nas.report.candidates import is_answer, read_answer
from lightning_nas.report.evolution import best_so_far, scatter
from lightning_nas.report.parts import Code, Facts, Figure, Pair, Part, Section, Table, Words
from lightning_nas.report.record import Row, number, read_rows
from lightning_nas.report.svg import to_svg

_STATES = 20  # rows shown of a table of Q-values


def trials(folder: Path) -> Section | None:
    """The section of the page; None for a run without trials."""
    rows, answer = read_rows(folder / "trials.csv"), read_answer(folder)
    if not rows:
        return None
    rewards = [(float(place), reward) for place, row in enumerate(rows) if (reward := _reward(row)) is not None]
    answers = [(place, reward) for place, reward in rewards if is_answer(rows[int(place)], answer)][:1]
    parts: list[Part] = [_facts(rows)]
    if rewards:
        best = max(reward for _, reward in rewards)
        said = f"{len(rewards)} rewards, the best {best:.4g} at trial {_first(rewards, best):.0f}"
        drawn = best_so_far(rewards, "Rewards", "trial", "reward", answers)
        diamond = "; the diamond is the answer" if answers else ""
        pictures = [Figure(to_svg(drawn, "rewards", said), f"{said}. Each dot is one trial{diamond}.")]
        parts.append(Pair([*pictures, *_population(folder)]))
    return Section("Trials", [*parts, *_q_values(folder)])


def _population(folder: Path) -> list[Figure]:
    """The age and reward of the members that an evolution ended with."""
    answer, members, answers = read_answer(folder), [], []
    for row in read_rows(folder / "population.csv"):
        age, reward = number(row.get("age")), number(row.get("reward"))
        if age is not None and reward is not None:
            members.append((age, reward))
            answers += [(age, reward)] if is_answer(row, answer) else []
    if not members:
        return []
    oldest = max(age for age, _ in members)
    said = f"{len(members)} members, the oldest of {oldest:.0f} trials"
    drawn = scatter(members, "The last population", "age, in trials since it was born", "reward", answers[:1])
    return [Figure(to_svg(drawn, "population", said), f"{said}. Each dot is one member.")]


def _q_values(folder: Path) -> list[Part]:
    """The best action of the states with the largest Q-values."""
    best = dict[str, tuple[float, str]]()
    rows = read_rows(folder / "q_values.csv")
    for row in rows:
        if (q := number(row.get("q"))) is not None:
            state, entry = row.get("state", ""), (q, row.get("action", ""))
            best[state] = max(best.get(state, entry), entry)
    if not best:
        return []
    first = sorted(best.items(), key=lambda entry: -entry[1][0])[:_STATES]
    cells = [(Code(state), Code(action), f"{q:.4f}") for state, (q, action) in first]
    words = f"Q-values: {len(rows)} known, of {len(best)} states; the {len(first)} largest."
    return [Words(words), Table(("State", "Best action", "Q"), cells, frozenset({2}))]


def _reward(row: Mapping[str, str]) -> float | None:
    """The reward of a trial that did not fail."""
    return None if row.get("failed") else number(row.get("reward"))


def _first(rewards: list[tuple[float, float]], best: float) -> float:
    return next(place for place, reward in rewards if reward == best)


def _facts(rows: list[Row]) -> Facts:
    failed = Counter(row["failed"] for row in rows if row.get("failed"))
    seconds = sum(number(row.get("seconds")) or 0.0 for row in rows)
    facts = [
        ("Trials", f"{len(rows):,}"),
        ("Different architectures", f"{len({row.get('key') for row in rows}):,}"),
        ("Training time, all trials", f"{seconds:,.1f} s"),
        ("Failed", f"{failed.total():,}"),
    ]
    return Facts(facts + [(f"{count} of them", reason) for reason, count in failed.most_common(5)])
