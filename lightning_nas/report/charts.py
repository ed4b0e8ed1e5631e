"""The parts of the report that are pictures of numbers; what was not recorded is said in words."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from lightning_nas.report import figures, markup
from lightning_nas.report.record import Row, number, read_object, read_points, read_probabilities, read_rows
from lightning_nas.report.svg import to_svg

_SEARCH = (
    ("train/loss", "val/loss"),
    ("arch/loss",),
    ("train/acc", "val/acc"),
    ("arch/entropy",),
    ("arch/reward", "arch/baseline"),
    ("latency/expected_ms",),
    ("controller/entropy",),
    ("controller/reward", "controller/baseline"),
    ("population/age",),
    ("q/mean", "q/max"),
    ("surrogate/spearman",),
)
_HEALTH = (
    ("supernet_score", "derived_score"),
    ("discretisation_gap",),
    ("entropy",),
    ("skip_share", "skip_probability"),
    ("eigenvalue",),
)
_RETRAIN = (("train/loss", "val/loss"), ("train/acc", "val/acc"))


def search_curves(folder: Path) -> str:
    """Losses, accuracy, entropy and expected latency of the search, then whatever else was logged."""
    title, points = "Search", read_points(read_rows(folder / "metrics.csv"))
    if not points:
        return markup.section(title, markup.missing("No search was recorded in this run."))
    parts = [_curves(points, _SEARCH, "search", "What the search logged, by step.")]
    known = {key for panel in _SEARCH for key in panel}
    rest = sorted(key for key in points if key not in known and not key.startswith(("rank/", "health/")))
    if rest:
        others = _curves(points, tuple((key,) for key in rest), "others", "Everything else that was logged.")
        parts.append(f"<details><summary>Other logged quantities ({len(rest)})</summary>\n{others}</details>\n")
    return markup.section(title, *parts)


def retrain_curves(folder: Path) -> str:
    """Losses and accuracy of the derived network trained alone."""
    title, points = "Retraining", read_points(read_rows(folder / "retrain" / "metrics.csv"))
    if not points:
        return markup.section(title, markup.missing("The derived network was not retrained in this run."))
    return markup.section(title, _curves(points, _RETRAIN, "retrain", "The derived network, trained alone, by step."))


def _curves(points: Mapping[str, figures.Points], keys: tuple[tuple[str, ...], ...], name: str, caption: str) -> str:
    there = [key for panel in keys for key in panel if key in points]
    if not there:
        return markup.missing(f"None of {', '.join(key for panel in keys for key in panel)} was logged.")
    ends = "; ".join(f"{key} from {points[key][0][1]:.4g} to {points[key][-1][1]:.4g}" for key in there)
    return markup.figure(to_svg(figures.curves(points, keys), name, f"Curves: {ends}"), caption)


def probabilities(folder: Path) -> str:
    """Where the search ended, and how it came there."""
    title, groups = "Choice probabilities", read_probabilities(read_rows(folder / "probabilities.csv"))
    if not groups:
        return markup.section(title, markup.missing("No choice probabilities were recorded in this run."))
    last = {group: values[-1] for group, (_, values, _) in groups.items()}
    names = {group: options for group, (*_, options) in groups.items()}
    end = max(epochs[-1] for epochs, *_ in groups.values())
    svg = to_svg(figures.probability_heatmap(last, names), "probabilities", f"Heat map of epoch {end}: {_best(groups)}")
    parts = [
        markup.figure(svg, f"After epoch {end}: each row is a choice, the stronger the blue the likelier the option.")
    ]
    for i, (group, (epochs, values, options)) in enumerate(groups.items()):
        drawn = figures.probability_history(epochs, values, options)
        svg = to_svg(drawn, f"history-{i}", f"Heat maps of the group {group} over {len(epochs)} epochs, one a choice")
        parts.append(markup.figure(svg, f"Over the epochs, group {group}: one panel a choice, one row an option."))
    return markup.section(title, *parts)


def _best(groups: Mapping[str, tuple[list[int], Any, list[str]]]) -> str:
    winners = {g: figures.winners(values[-1]) for g, (_, values, _) in groups.items()}
    return "; ".join(
        f"{g} {c}: {groups[g][2][o]} {groups[g][1][-1][c, o]:.2f}" for g, won in winners.items() for c, o in won
    )


def health(folder: Path) -> str:
    """The signs of a collapse."""
    title, points = "Search health", read_points(read_rows(folder / "health.csv"))
    if not points:
        return markup.section(title, markup.missing("The health of the search was not recorded in this run."))
    caption = (
        "By step. Of a sound search the gap between supernet and derived network closes, the entropy falls, skip "
        "connections do not take over, and the dominant eigenvalue of the Hessian in the architecture parameters stays."
    )
    return markup.section(title, _curves(points, _HEALTH, "health", caption), *_edges(folder))


def _edges(folder: Path) -> list[str]:
    """One figure of how decided every choice was, and for what."""
    groups = read_probabilities(read_rows(folder / "edges.csv"))  # of the likeliest options alone
    if not groups:
        return []
    svg = to_svg(figures.winner_history(groups), "edges", f"Heat maps of the likeliest option: {_best(groups)}")
    words = "The probability of each choice's likeliest option; a dot where that became another one."
    return [markup.figure(svg, words)]


def rank(folder: Path) -> str:
    """How well the search's own scores rank architectures."""
    title, rows = "Rank check", read_rows(folder / "rank.csv")
    if not rows:
        return markup.section(title, markup.missing("No rank check was made in this run."))
    return markup.section(title, _rank_figures(rows, read_rows(folder / "rank_points.csv")), _rank_table(rows[-1]))


def _rank_figures(rows: list[Row], points: list[Row]) -> str:
    parts = []
    last = points[-1].get("epoch") if points else None
    pairs = [(number(p.get("score")), number(p.get("truth"))) for p in points if p.get("epoch") == last]
    known = [(score, truth) for score, truth in pairs if score is not None and truth is not None]
    taus = {row.get("epoch"): number(row.get("kendall_tau")) for row in rows}
    if known:
        scores, truth = zip(*known, strict=True)
        svg = to_svg(
            figures.rank_scatter(scores, truth, taus.get(last)), "scatter", f"Scatter of {len(known)} architectures"
        )
        parts.append(markup.figure(svg, f"Epoch {last}: each dot is one architecture."))
    curve = read_points(rows, "epoch").get("kendall_tau", [])
    if curve:
        said = ", ".join(f"{tau:.2f} at epoch {epoch:.0f}" for epoch, tau in curve)
        svg = to_svg(figures.tau_curve(curve, _intervals(rows)), "tau", f"Kendall's tau: {said}")
        parts.append(markup.figure(svg, "1 is the true order, 0 a blind guess; the band is the bootstrap interval."))
    return markup.pair(*parts) if parts else markup.missing("Kendall's tau is not defined for the scores that came.")


def hypothesis(folder: Path) -> str:
    """How early the final ranking of networks trained alone is known; nothing for a run that did not look."""
    rows = read_rows(folder / "ranking.csv")
    points = read_points(rows, "epoch")
    if "kendall_tau" not in points:
        return ""
    said = ", ".join(f"{tau:.2f} after epoch {epoch + 1:.0f}" for epoch, tau in points["kendall_tau"])
    tau = to_svg(figures.tau_curve(points["kendall_tau"], _intervals(rows)), "early", f"Kendall's tau: {said}")
    pairs = figures.curves(points, (("p_tau",),), "epoch")
    parts = [
        markup.figure(tau, "Between the ranking after each epoch and the last; the band is the bootstrap interval."),
        markup.figure(to_svg(pairs, "pairs", "The share of pairs in the final order"), "Pairs in the final order."),
    ]
    words = f"<p>{escape(rows[0].get('networks', ''))} networks drawn from the space, each trained alone.</p>\n"
    return markup.section("Performance-ranking hypothesis", words, markup.pair(*parts))


def _intervals(rows: list[Row]) -> list[tuple[float, float, float]]:
    cells = [[number(row.get(key)) for key in ("epoch", "low", "high")] for row in rows]
    return [(e, low, high) for e, low, high in cells if e is not None and low is not None and high is not None]


def _rank_table(last: Row) -> str:
    names = {"kendall_tau": "Kendall's tau", "p_tau": "Pairs in the true order", "spearman": "Spearman's rho"}
    names |= {"kendall_tau_macs": "Kendall's tau of MACs alone", "spearman_macs": "Spearman's rho of MACs alone"}
    rows = [(escape(name), markup.value(number(last.get(key)), "{:.3f}")) for key, name in names.items()]
    top = escape(f"Of the true top {last.get('k') or 'k'}, found")
    rows.append((top, markup.value(number(last.get("precision_at_k")), "{:.0%}")))
    rows.append(("Architectures", markup.value(number(last.get("architectures")))))
    return markup.facts(rows)


def layers(folder: Path) -> str:
    """Where the derived network spends its time, or whatever else the latency table counts."""
    unit = read_object(folder / "latency_table.json").get("unit", "ms")
    title, most = ("Latency by layer", "slowest") if unit == "ms" else ("Cost by layer", "largest")
    rows = [
        (row.get("decision", ""), row.get("option", ""), number(row.get("cost")))
        for row in read_rows(folder / "layers.csv")
    ]
    known = [(decision, option, cost) for decision, option, cost in rows if cost is not None]
    if not known:
        return markup.section(title, markup.missing("No latency table was used in this run."))
    total = sum(cost for *_, cost in known)
    decision, option, cost = max(known, key=lambda row: row[2])
    said = f"{len(known)} layers, {total:.3g} {unit} in all; the {most} is {decision} {option}, {cost:.3g} {unit}"
    svg = to_svg(figures.latency_bars(known, unit), "latency", f"Bars of predicted cost: {said}")
    return markup.section(title, markup.figure(svg, f"{said}. Grey: what every architecture of the space runs."))
