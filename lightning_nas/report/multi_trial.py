"""What a search by trials has tried, and how well it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path

from lightning_nas.report import markup
from lightning_nas.report.evolution import best_so_far, front_figure, scatter
from lightning_nas.report.record import Row, number, read_rows
from lightning_nas.report.svg import to_svg

_STATES = 20  # of a table of Q-values that are shown


def trials(folder: Path) -> str:
    """The part of the report; nothing for a run without trials."""
    rows = read_rows(folder / "trials.csv")
    rewards = [(float(place), reward) for place, row in enumerate(rows) if (reward := _reward(row)) is not None]
    if not rows:
        return ""
    parts = [_facts(rows)]
    if rewards:
        best = max(reward for _, reward in rewards)
        said = f"{len(rewards)} rewards, the best {best:.4g} at trial {_first(rewards, best):.0f}"
        drawn = best_so_far(rewards, "Rewards", "trial", "reward")
        pictures = [markup.figure(to_svg(drawn, "rewards", said), f"{said}. Each dot is one trial.")]
        cells = [(number(row.get("cost")), _reward(row)) for row in rows]
        if priced := [(cost, reward) for cost, reward in cells if cost is not None and reward is not None]:
            pictures.append(front_figure(priced, "reward"))
        parts.append(markup.pair(*pictures))
    return markup.section("Trials", *parts, _population(folder), _q_values(folder))


def _population(folder: Path) -> str:
    """How old and how good the members are that an evolution ended with."""
    cells = [(number(row.get("age")), number(row.get("reward"))) for row in read_rows(folder / "population.csv")]
    members = [(age, reward) for age, reward in cells if age is not None and reward is not None]
    if not members:
        return ""
    oldest = max(age for age, _ in members)
    said = f"{len(members)} members, the oldest of {oldest:.0f} trials"
    drawn = scatter(members, "The last population", "age, in trials since it was born", "reward")
    return markup.figure(to_svg(drawn, "population", said), f"{said}. Each dot is one member.")


def _q_values(folder: Path) -> str:
    """The best action of the states that promise most, by a Q-learning's table."""
    best = dict[str, tuple[float, str]]()
    rows = read_rows(folder / "q_values.csv")
    for row in rows:
        if (q := number(row.get("q"))) is not None:
            state, entry = row.get("state", ""), (q, row.get("action", ""))
            best[state] = max(best.get(state, entry), entry)
    if not best:
        return ""
    first = sorted(best.items(), key=lambda entry: -entry[1][0])[:_STATES]
    cells = [(markup.code(state), markup.code(action), f"{q:.4f}") for state, (q, action) in first]
    words = f"<p>Q-values: {len(rows)} known, of {len(best)} states; the {len(first)} that promise most.</p>\n"
    return words + markup.table(("state", "its best action", "Q"), cells, frozenset({2}))


def _reward(row: Mapping[str, str]) -> float | None:
    """Of a trial that did not fail."""
    return None if row.get("failed") else number(row.get("reward"))


def _first(rewards: list[tuple[float, float]], best: float) -> float:
    return next(place for place, reward in rewards if reward == best)


def _facts(rows: list[Row]) -> str:
    failed = Counter(row["failed"] for row in rows if row.get("failed"))
    seconds = sum(number(row.get("seconds")) or 0.0 for row in rows)
    facts = [
        ("Trials", markup.value(len(rows))),
        ("Different architectures", markup.value(len({row.get("key") for row in rows}))),
        ("Training, all together", markup.value(seconds, "{:,.1f}", " s")),
        ("Failed", markup.value(failed.total())),
    ]
    return markup.facts(facts + [(f"{count} of them", escape(reason)) for reason, count in failed.most_common(5)])
