"""Style shared by the figures and the page: colours for light and dark, and the look of an axis."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

# name: (light, dark). Figures are drawn in the light colours; the page turns each into a CSS variable.
COLORS = {
    "ink": ("#1c1e22", "#ebeae6"),
    "muted": ("#62656c", "#a4a7ae"),
    "grid": ("#dddcd7", "#3a3d44"),
    "surface": ("#fcfcfb", "#17191d"),
    "raised": ("#f3f2ee", "#22252b"),
    "blue": ("#2470c8", "#62a3ee"),
    "orange": ("#bf530b", "#f0944f"),
    "teal": ("#137a66", "#40b89e"),
    "violet": ("#7549bf", "#ab8eea"),
}
INK, MUTED, GRID, RAISED = (COLORS[name][0] for name in ("ink", "muted", "grid", "raised"))
SERIES = tuple(COLORS[name][0] for name in ("blue", "orange", "teal", "violet"))
ACCENT = SERIES[0]
WIDTH = 9.9  # inches: the page's column at full size
SMALL, NORMAL = 8.0, 9.0


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches, outside pyplot's global state."""
    return Figure(figsize=(width, height), layout="constrained")


def dress(axes: Any, *, title: str = "", x: str = "", y: str = "", grid: str | None = "both") -> None:
    """Quiet axes: thin lines, muted numbers, the title at the left."""
    axes.set_title(plain(title), loc="left", y=1.0, fontsize=NORMAL, color=INK)  # with y, no place is looked for
    axes.set_xlabel(plain(x), fontsize=SMALL, color=MUTED)
    axes.set_ylabel(plain(y), fontsize=SMALL, color=MUTED)
    for axis, label in ((axes.xaxis, x), (axes.yaxis, y)):
        if not label:
            axis.set_label_coords(0, 0)  # likewise
    axes.tick_params(labelsize=SMALL, labelcolor=MUTED, color=GRID, width=0.8, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(GRID)
    if grid:
        axes.grid(visible=True, axis=grid, color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def plain(text: str, limit: int = 60) -> str:
    r"""Text that matplotlib prints unchanged: dollars escaped, invisible letters removed, cut at ``limit`` letters.

    >>> print(plain("a$b$ c"))
    a\$b\$ c
    """
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.replace("$", r"\$")
