"""The sections of the page that are pictures of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_nas.report import figures
from lightning_nas.report.candidates import read_answer
from lightning_nas.report.choices import Choices
from lightning_nas.report.parts import (
    Facts,
    Figure,
    Folded,
    Pair,
    Part,
    Section,
    Table,
    Words,
    known,
    value,
)
from lightning_nas.report.quantities import provenance
from lightning_nas.report.record import Row, number, read_object, read_points, read_probabilities, read_rows
from lightning_nas.report.svg import to_svg

_SEARCH = (
    ("train/loss", "val/loss"),
    ("arch/loss",),
    ("train/acc", "val/acc"),
    ("val/r2",),
    ("val/map", "val/f1"),
    ("val/miou", "val/pixel_acc"),
    ("arch/entropy",),
    ("arch/reward", "arch/baseline"),
    ("latency/expected_ms",),
    tuple(f"{name}/gap" for name in ("target", "target_ms", "target_macs", "target_params")),
    tuple(f"{name}/lambda" for name in ("target", "target_ms", "target_macs", "target_params")),
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
_LIKELIEST = "The probability of each choice's likeliest option; a dot where the option changed."
_MOST_HISTORIES = 6  # groups with a picture of all options each
_RETRAIN = (
    ("train/loss", "val/loss"),
    ("train/acc", "val/acc"),
    ("val/r2",),
    ("val/map", "val/f1"),
    ("val/miou", "val/pixel_acc"),
)


def search_curves(folder: Path) -> Section:
    """Losses, metrics, entropy and expected latency of the search, then everything else that was logged."""
    points = read_points(read_rows(folder / "metrics.csv"))
    parts = _curves(points, _SEARCH, "search", "The metrics the search logged, by step.")
    shown = {key for panel in _SEARCH for key in panel}
    rest = sorted(key for key in points if key not in shown and not key.startswith(("rank/", "health/")))
    if rest:
        others = _curves(points, tuple((key,) for key in rest), "others", "All other logged metrics, by step.")
        parts.append(Folded(f"Other logged metrics ({len(rest)})", others))
    return Section("Search", parts)


def retrain_curves(folder: Path) -> Section:
    """Losses and metrics of the derived network trained alone."""
    points = read_points(read_rows(folder / "retrain" / "metrics.csv"))
    return Section("Retraining", _curves(points, _RETRAIN, "retrain", "The derived network, trained alone, by step."))


def _curves(
    points: Mapping[str, figures.Points], keys: tuple[tuple[str, ...], ...], name: str, caption: str
) -> list[Part]:
    there = [key for panel in keys for key in panel if key in points]
    if not there:
        return []
    ends = "; ".join(f"{key} from {points[key][0][1]:.4g} to {points[key][-1][1]:.4g}" for key in there)
    return [Figure(to_svg(figures.curves(points, keys), name, f"Curves: {ends}"), caption)]


def probabilities(folder: Path, choices: Choices) -> Section:
    """The probabilities at the end of the search, and over its epochs."""
    title, groups = "Choice probabilities", read_probabilities(read_rows(folder / "probabilities.csv"))
    if not groups:
        return Section(title)
    last = {group: values[-1] for group, (_, values, _) in groups.items()}
    names = {group: options for group, (*_, options) in groups.items()}
    end = max(epochs[-1] for epochs, *_ in groups.values())
    drawn = figures.probability_heatmap(last, names, choices)
    svg = to_svg(drawn, "probabilities", f"Heat map of epoch {end}: {_best(groups, choices)}")
    frames = " Frames mark the answer." if any(group in choices.taken for group in groups) else ""
    parts: list[Part] = [Figure(svg, f"After epoch {end}: a row for each choice, darker means more probable.{frames}")]
    if len(groups) > _MOST_HISTORIES:
        svg = to_svg(
            figures.winner_history(groups, choices), "history", f"Heat maps over the epochs: {_best(groups, choices)}"
        )
        return Section(title, [*parts, Figure(svg, f"Over the epochs. {_LIKELIEST}")])
    for i, (group, (epochs, values, options)) in enumerate(groups.items()):
        drawn = figures.probability_history(epochs, values, options, choices.named(group, values.shape[1]))
        svg = to_svg(drawn, f"history-{i}", f"Heat maps of {group} over {len(epochs)} epochs, one for each choice")
        parts.append(Figure(svg, f"Over the epochs, group {group}: a panel for each choice, a row for each option."))
    return Section(title, parts)


def _best(groups: Mapping[str, tuple[list[int], Any, list[str]]], choices: Choices) -> str:
    winners = {g: figures.winners(values[-1]) for g, (_, values, _) in groups.items()}
    return "; ".join(
        f"{choices.name(g, c)}: {groups[g][2][o]} {groups[g][1][-1][c, o]:.2f}"
        for g, won in winners.items()
        for c, o in won
    )


def health(folder: Path, choices: Choices) -> Section:
    """The signs of a collapse."""
    points = read_points(read_rows(folder / "health.csv"))
    caption = (
        "By step. In a sound search the gap between supernet and derived network closes, the entropy falls, skip "
        "connections do not take over, and the dominant eigenvalue of the Hessian of the architecture parameters "
        "stays small."
    )
    curves = _curves(points, _HEALTH, "health", caption)
    return Section("Search health", [*curves, *_edges(folder, choices)] if curves else [])


def _edges(folder: Path, choices: Choices) -> list[Part]:
    """The probability and name of every choice's likeliest option over the epochs."""
    groups = read_probabilities(read_rows(folder / "edges.csv"))  # holds the likeliest options only
    if not groups:
        return []
    drawn = figures.winner_history(groups, choices)
    svg = to_svg(drawn, "edges", f"Heat maps of the likeliest option: {_best(groups, choices)}")
    return [Figure(svg, _LIKELIEST)]


def rank(folder: Path) -> Section:
    """How well the search's scores rank architectures."""
    rows = read_rows(folder / "rank.csv")
    if not rows:
        return Section("Rank check")
    pictures = _rank_figures(folder, rows, read_rows(folder / "rank_points.csv"))
    undefined = Words("Kendall's tau is not defined for these scores.")
    parts: list[Part] = [Pair(pictures) if pictures else undefined, _rank_table(rows[-1])]
    return Section("Rank check", [*parts, *_proxies(rows[-1], read_rows(folder / "rank_proxies.csv"))])


def _proxies(search: Row, rows: list[Row]) -> list[Part]:
    """Scores without training beside the search, on the same architectures; none if they were not taken."""
    if not rows:
        return []
    lines = [["the search", *_figures_of(search)]]
    lines += [[row.get("proxy", ""), *_figures_of(row)] for row in rows]
    top = f"Found of the true top {search.get('k') or 'k'}"
    head = ("Score", "Spearman's rho", "Kendall's tau", "Interval of tau", top, "By chance")
    words = (
        "Scores of the fresh networks without training, beside the scores of the search. A score that ranks all "
        "architectures well may miss the best ones, so the share of the true top that it finds stands beside rho. By "
        "chance: the share of random orders with a tau as far from 0."
    )
    return [Words(words), Table(head, lines, frozenset(range(1, len(head))))]


def _figures_of(row: Row) -> list[str]:
    """Rho, tau, its interval, the share of the top and chance, as text."""
    forms = {"spearman": "{:.3f}", "kendall_tau": "{:.3f}", "precision_at_k": "{:.0%}", "chance": "{:.1%}"}
    rho, tau, top, chance = (value(number(row.get(key)), form) or "–" for key, form in forms.items())
    low, high = (value(number(row.get(key)), "{:.2f}") for key in ("low", "high"))
    return [rho, tau, "–" if low is None or high is None else f"{low} to {high}", top, chance]


def _rank_figures(folder: Path, rows: list[Row], points: list[Row]) -> list[Figure]:
    parts = []
    last = points[-1].get("epoch") if points else None
    cells = [
        (p.get("key", ""), number(p.get("score")), number(p.get("truth"))) for p in points if p.get("epoch") == last
    ]
    pairs = [(key, score, truth) for key, score, truth in cells if score is not None and truth is not None]
    taus = {row.get("epoch"): number(row.get("kendall_tau")) for row in rows}
    if pairs:
        keys, scores, truth = zip(*pairs, strict=True)
        answer = read_answer(folder)
        drawn = figures.rank_scatter(scores, truth, taus.get(last), keys, "" if answer is None else answer.key)
        svg = to_svg(drawn, "scatter", f"Scatter of {len(pairs)} architectures")
        diamond = "; the diamond is the answer" if answer is not None and answer.key in keys else ""
        parts.append(Figure(svg, f"Epoch {last}: each dot is one architecture{diamond}."))
    curve = read_points(rows, "epoch").get("kendall_tau", [])
    if curve:
        said = ", ".join(f"{tau:.2f} at epoch {epoch:.0f}" for epoch, tau in curve)
        svg = to_svg(figures.tau_curve(curve, _intervals(rows)), "tau", f"Kendall's tau: {said}")
        parts.append(Figure(svg, "1 is the true order, 0 is chance; the band is the bootstrap interval."))
    return parts


def hypothesis(folder: Path) -> Section | None:
    """How early the final ranking of networks trained alone is known; None for a run that did not look."""
    rows = read_rows(folder / "ranking.csv")
    points = read_points(rows, "epoch")
    if "kendall_tau" not in points:
        return None
    said = ", ".join(f"{tau:.2f} after epoch {epoch + 1:.0f}" for epoch, tau in points["kendall_tau"])
    tau = to_svg(figures.tau_curve(points["kendall_tau"], _intervals(rows)), "early", f"Kendall's tau: {said}")
    pairs = to_svg(figures.curves(points, (("p_tau",),), "epoch"), "pairs", "The share of pairs in the final order")
    pictures = [
        Figure(tau, "Between the ranking after each epoch and the last; the band is the bootstrap interval."),
        Figure(pairs, "Share of pairs in the final order."),
    ]
    words = Words(f"{rows[0].get('networks', '')} networks drawn from the space, each trained alone.")
    return Section("Performance-ranking hypothesis", [words, Pair(pictures)])


def _intervals(rows: list[Row]) -> list[tuple[float, float, float]]:
    cells = [[number(row.get(key)) for key in ("epoch", "low", "high")] for row in rows]
    return [(e, low, high) for e, low, high in cells if e is not None and low is not None and high is not None]


def _rank_table(last: Row) -> Facts:
    names = {"kendall_tau": "Kendall's tau", "p_tau": "Pairs in the true order", "spearman": "Spearman's rho"}
    names |= {"kendall_tau_macs": "Kendall's tau of MACs alone", "spearman_macs": "Spearman's rho of MACs alone"}
    names |= {"kendall_tau_truth": "Kendall's tau of the truth with another seed"}
    rows = [(name, value(number(last.get(key)), "{:.3f}")) for key, name in names.items()]
    rows.append(("By chance", value(number(last.get("chance")), "{:.1%} of random orders are as far from 0")))
    rows.append((f"Found of the true top {last.get('k') or 'k'}", value(number(last.get("precision_at_k")), "{:.0%}")))
    rows.append(("Architectures", value(number(last.get("architectures")))))
    return known([*rows, ("What it can say", value(last.get("verdict")))])


def layers(folder: Path, choices: Choices) -> Section:
    """The cost of each layer of the derived network, in the unit of the latency table."""
    table = read_object(folder / "latency_table.json")
    unit = table.get("unit", "ms")
    title, most = ("Latency by layer", "slowest") if unit == "ms" else ("Cost by layer", "largest")
    cells = [
        (choices.rename(row.get("decision", "")), row.get("option", ""), number(row.get("cost")))
        for row in read_rows(folder / "layers.csv")
    ]
    rows = [(layer, option, cost) for layer, option, cost in cells if cost is not None]
    if not rows:
        return Section(title)
    total = sum(cost for *_, cost in rows)
    layer, option, cost = max(rows, key=lambda row: row[2])
    device = f" Device: {provenance(table)}." if unit == "ms" and table.get("device") else ""
    said = f"{len(rows)} layers, {_amount(total)} {unit} in total; the {most} is {figures.layer_label(layer, option)}"
    said += f", {_amount(cost)} {unit}"
    svg = to_svg(figures.latency_bars(rows, unit), "latency", f"Bars of predicted cost: {said}")
    return Section(title, [Figure(svg, f"{said}. Grey: parts that every architecture of the space has.{device}")])


def _amount(cost: float) -> str:
    return f"{cost:,.0f}" if cost >= 1000 else f"{cost:.3g}"
