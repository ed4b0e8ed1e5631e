"""Build hook of the documentation site: every page of ``docs/methods`` enters the navigation, the list and the API.

MkDocs calls the functions that begin with ``on_``; ``mkdocs.yml`` names this file. In a page the marker
``<!-- methods: one_path -->`` stands for the list of that family's methods, ``<!-- compared: one_path -->`` for the
table that compares them by what the heads of their pages say.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
FAMILIES = {"differentiable": "Differentiable", "one_path": "One path at a time", "multi_trial": "Trials"}
COMPARED = ("good for", "judged by", "cost of the search", "latency-aware")
MARKER = re.compile(r"<!-- (methods|compared): (\w+) -->")
HEAD = re.compile(r"---\n(.*?)\n---\n\n", re.DOTALL)
TARGET = re.compile(r"^_target_: (lightning_nas\.strategies\.(\w+)\.\w+\.\w+)$", re.MULTILINE)
ARXIV = re.compile(r"arxiv\.org/abs/(\d+\.\d+)")


class Method(NamedTuple):
    """One page of ``docs/methods``: its title, its paper up to the words "The file:", its head, its preset's class."""

    strategy: str
    title: str
    paper: str
    head: dict[str, str]
    target: str

    @property
    def row(self) -> str:
        """The row of the table in the list of methods."""
        file = "/".join(self.target.split(".")[1:-1])
        return f"| [`{self.strategy}`]({self.strategy}.md) | {self.title} | {self.paper} | `{file}.py` |"

    @property
    def comparison(self) -> str:
        """The row of the table that compares methods."""
        return (
            f"| [`{self.strategy}`](../methods/{self.strategy}.md) | {' | '.join(self.head[key] for key in COMPARED)} |"
        )


def methods(family: str) -> list[Method]:
    """The methods of one family that have a page, by the age of their papers."""
    found = []
    for path in (ROOT / "docs" / "methods").glob("*.md"):
        preset = ROOT / "conf" / "strategy" / f"{path.stem}.yaml"
        if preset.exists() and (target := TARGET.search(preset.read_text(encoding="utf-8"))) and target[2] == family:
            text = path.read_text(encoding="utf-8")
            if not (head := HEAD.match(text)):
                raise ValueError(f"{path}: the head is missing: --- and a line for each of {', '.join(COMPARED)}")
            title, paper, *_ = text[head.end() :].split("\n\n", 2)
            paper = " ".join(paper.split()).partition(" The file:")[0].rstrip(".")
            found.append(Method(path.stem, title.removeprefix("# "), paper, yaml.safe_load(head[1]), target[1]))
    return sorted(found, key=lambda method: (*ARXIV.findall(method.paper)[:1], method.title))


def filled(markdown: str, *, api: bool) -> str:
    """The text of a page with rows of a table, or entries of the API, in the place of the markers."""

    def text(match: re.Match[str]) -> str:
        found = methods(match[2])
        if match[1] == "compared":
            return _table(("method", *COMPARED), [m.comparison for m in found])
        if api:
            return "\n\n".join(f"::: {method.target}" for method in found)
        return _table(("strategy", "method", "paper", "file"), [m.row for m in found])

    return MARKER.sub(text, markdown)


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows])


def on_config(config: Any) -> Any:
    """Add the pages to the section "Methods" of the navigation."""
    [section] = [entry["Methods"] for entry in config["nav"] if "Methods" in entry]
    for family, heading in FAMILIES.items():
        section.append({heading: [{m.title: f"methods/{m.strategy}.md"} for m in methods(family)]})
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill the markers of a page."""
    del config, files
    return filled(markdown, api=page.file.src_uri.startswith("api/"))
