"""Small pieces of HTML. Arguments called ``text`` are escaped; those called ``html`` must be HTML already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from lightning_nas.report.theme import COLORS

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def _variables(column: int) -> str:
    return " ".join(f"--{name}: {colors[column]};" for name, colors in COLORS.items())


STYLE = f"""
:root {{ color-scheme: light dark; {_variables(0)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(1)} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 4rem; background: var(--surface); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
h1 {{ font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; margin: 3rem 0 .8rem; padding-top: 1rem; border-top: 1px solid var(--grid); }}
p {{ margin: .4rem 0; }}
.lede {{ font-size: 1.1rem; color: var(--muted); margin-bottom: 1.8rem; overflow-wrap: anywhere; }}
.missing, figcaption {{ color: var(--muted); font-size: .9rem; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; vertical-align: top; padding: .4rem .9rem .4rem 0;
  border-bottom: 1px solid var(--grid); }}
thead th, tbody th {{ color: var(--muted); font-weight: 500; }}
th {{ white-space: nowrap; }}
tbody th {{ width: min(15rem, 40%); white-space: normal; }}
td.number, th.number {{ text-align: right; white-space: nowrap; }}
code, pre {{ font: .84em/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
td code {{ overflow-wrap: break-word; }}
pre {{ background: var(--raised); padding: 1rem; border-radius: .5rem; overflow-x: auto; }}
figure {{ margin: 1.2rem 0 1.8rem; }}
figure svg {{ display: block; max-width: 100%; height: auto; }}
figure svg text {{ font-family: system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif !important; }}
figcaption {{ margin-top: .5rem; }}
.pair {{ display: flex; flex-wrap: wrap; gap: 0 1.5rem; }}
.pair figure {{ flex: 1 1 20rem; }}
summary {{ cursor: pointer; color: var(--muted); }}
@media (max-width: 40rem) {{ .scroll svg {{ max-width: none; }} h1 {{ font-size: 1.5rem; }} }}
@media print {{ :root {{ --surface: #fff; }} body {{ max-width: none; padding: 0; font-size: 10pt; }}
  figure, tr, .pair {{ break-inside: avoid; }}
  h2 {{ break-after: avoid; }} pre {{ white-space: pre-wrap; }}
  details::details-content {{ content-visibility: visible; }} }}
"""


def page(title_text: str, lede_text: str, sections_html: Iterable[str]) -> str:
    """A whole document: no script, nothing from outside, and a policy that allows neither."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title_text)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title_text)}</h1>
<p class="lede">{escape(lede_text)}</p>
{"".join(sections_html)}</main>
</body>
</html>
"""


def section(title_text: str, *parts_html: str) -> str:
    """A part of the page under its heading."""
    return f"<section>\n<h2>{escape(title_text)}</h2>\n{''.join(parts_html)}</section>\n"


def missing(text: str) -> str:
    """A sentence in place of something that was not recorded."""
    return f'<p class="missing">{escape(text)}</p>\n'


def figure(svg_html: str, caption_text: str) -> str:
    """A picture and what it shows."""
    return (
        f'<figure>\n<div class="scroll">{svg_html}</div>\n<figcaption>{escape(caption_text)}</figcaption>\n</figure>\n'
    )


def pair(*figures_html: str) -> str:
    """Pictures side by side where there is room."""
    return f'<div class="pair">{"".join(figures_html)}</div>\n'


def code(text: str) -> str:
    """Text in the shape of code."""
    return f"<code>{escape(text)}</code>"


def facts(rows_html: Sequence[tuple[str, str]]) -> str:
    """A table of two columns: a name and its value."""
    body = "".join(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>\n' for name, value in rows_html)
    return f'<div class="scroll"><table>\n<tbody>\n{body}</tbody>\n</table></div>\n'


def table(head_text: Sequence[str], rows_html: Sequence[Sequence[str]], numeric: frozenset[int]) -> str:
    """A table with a head; the columns in ``numeric`` stand to the right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        right = [' class="number"' if i in numeric else "" for i in range(len(row))]
        return "".join(f"<{tag}{place}>{cell}</{tag[:2]}>" for place, cell in zip(right, row, strict=True))

    head = cells('th scope="col"', [escape(name) for name in head_text])
    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows_html)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n'


def value(content: Any, form: str = "{:,.0f}", unit: str = "") -> str:
    """A number in words fit for reading, other content as it is, and None as what it means.

    >>> value(1234567), value(0.978, "{:.1%}"), value(None)
    ('1,234,567', '97.8%', 'not taken')
    """
    if content is None:
        return "not taken"
    if isinstance(content, bool) or not isinstance(content, int | float):
        return escape(str(content))
    return form.format(content) + unit
