"""A matplotlib figure as SVG to stand inside an HTML page."""

from __future__ import annotations

import io
import re
import warnings
from html import escape

from matplotlib import rc_context
from matplotlib.figure import Figure

from lightning_nas.report.theme import COLORS

_TAG = re.compile(r"<[^>]*>")  # matplotlib writes ">" inside text and attributes as "&gt;"
_REFERENCE = re.compile(r'(\bid="|href="#|url\(#)')


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as one ``<svg>`` element: the same figure always gives the same text.

    Letters stay letters (small, can be searched and copied), colours become the page's CSS variables, and every id
    begins with ``name``, so that several figures can share a page.

    Args:
        figure: what to draw.
        name: unique on the page; letters, digits, dashes.
        description: read out in place of the picture.
    """
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser has more fonts than matplotlib
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = _TAG.sub(lambda tag: _adapted(tag.group(), name), text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)


def _adapted(tag: str, name: str) -> str:
    """One tag with unique ids and with the page's colours."""
    tag = _REFERENCE.sub(rf"\g<1>{name}-", tag)
    for color, (light, _) in COLORS.items():
        tag = tag.replace(light, f"var(--{color})")
    return tag
