"""A matplotlib figure as SVG inside an HTML page, with values to hover over."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from html import escape
from typing import Any
from weakref import WeakKeyDictionary

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from lightning_nas.report.theme import COLORS

_TAG = re.compile(r"<[^>]*>")  # matplotlib writes ">" inside text and attributes as "&gt;"
_REFERENCE = re.compile(r'(\bid="|href="#|url\(#)')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_SHAPE = re.compile(r"<defs>.*?</defs>|<(use|path)\b[^>]*/>", re.DOTALL)
_TIPS: WeakKeyDictionary[Artist, list[str]] = WeakKeyDictionary()


def hover(artist: Artist, texts: Sequence[str]) -> None:
    """Show a text over each of the artist's shapes (the points of a scatter, a bar), in the order they are drawn."""
    _TIPS[artist] = ["".join(letter for letter in text if letter.isprintable()) for text in texts]


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as one ``<svg>`` element: the same figure always gives the same text.

    Letters stay letters (small, can be searched and copied), colours become the page's CSS variables, every id
    begins with ``name``, so that several figures can share a page, and the texts of :func:`hover` become titles.

    Args:
        figure: what to draw.
        name: unique on the page; letters, digits, dashes.
        description: read out in place of the picture.
    """
    tips = [artist for artist in _TIPS if artist.figure is figure]
    for number, artist in enumerate(tips):
        artist.set_gid(f"tip-{number}")
    buffer = io.StringIO()
    # the page names its own font: one name in every text keeps it small
    style = rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.sans-serif": ["DejaVu Sans"]})
    with style, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser has more fonts than matplotlib
        inside: list[Any] = [child for axes in figure.axes for child in axes.child_axes]
        for drawn in (figure, *figure.axes, *inside):
            drawn.patch.set(facecolor="none", edgecolor="none")
        # not savefig, which draws twice where there is a layout; drawing once lays the figure out as well
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for number, artist in enumerate(tips):
        text = _titled(text, f'<g id="tip-{number}">', _TIPS[artist])
    text = _TAG.sub(lambda tag: _adapted(tag.group(), name), text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)


def _titled(text: str, group: str, titles: Sequence[str]) -> str:
    """A title inside each of the first shapes after the start of a group."""
    left = list(reversed(titles))

    def title(shape: re.Match[str]) -> str:
        if not shape[1] or not left:
            return shape[0]
        return f"{shape[0][:-2]}><title>{escape(left.pop())}</title></{shape[1]}>"

    before, found, after = text.partition(group)
    return before + found + _SHAPE.sub(title, after)


def _adapted(tag: str, name: str) -> str:
    """One tag with unique ids, the page's colours and numbers of two decimals."""
    tag = _REFERENCE.sub(rf"\g<1>{name}-", _DECIMALS.sub(r"\1", tag))
    for color, (light, _) in COLORS.items():
        tag = tag.replace(light, f"var(--{color})")
    return tag
