"""The options of each configuration group by name, with what their YAML says of them. Imports no torch."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from lightning_nas.cli.plugins import conf_packages, node, parts

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
# the end of a sentence: a full stop that is not of "et al." or "e.g.", then something new
_SENTENCE = re.compile(r"(?<!al)(?<!e\.g)\.\s+(?=\S)")


def conf_dir() -> str:
    """The folder of the Hydra groups: inside an installed package, beside it in a checkout."""
    here = Path(__file__).resolve().parents[1]
    return str(here / "conf" if (here / "conf").is_dir() else here.parent / "conf")


def folders() -> Iterator[Path]:
    """The library's folder of groups, then those of other packages."""
    yield Path(conf_dir())
    for package in conf_packages().values():
        spec = importlib.util.find_spec(package)
        yield from map(Path, (spec and spec.submodule_search_locations) or ())


def groups() -> list[str]:
    """The groups that have options, sorted; those of Hydra itself are left out."""
    found = {path.name for folder in folders() if folder.is_dir() for path in folder.iterdir() if path.is_dir()}
    return sorted((found | parts().keys()) - {"hydra", "local", "__pycache__"})


def files(group: str) -> dict[str, Path]:
    """The YAML of each option of a group, by name; the library's own win."""
    found: dict[str, Path] = {}
    for folder in folders():
        for file in (folder / group).glob("*.yaml"):
            found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def names(group: str) -> list[str]:
    """The options of a group, those of other packages included."""
    return sorted(files(group).keys() | parts().get(group, {}).keys())


def homes(name: str) -> list[str]:
    """``GROUP=NAME`` for every group that has an option of this name."""
    return [f"{group}={name}" for group in groups() if name in names(group)]


def content(group: str, name: str) -> Mapping[str, Any]:
    """The option as its YAML writes it, or as an entry point without a YAML stands for it."""
    file = files(group).get(name)
    if file is None:
        return node(group, parts()[group][name])
    written: Mapping[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return written


def comment(group: str, name: str) -> str:
    """The comment that the YAML of an option begins with, on one line; empty if there is none."""
    file = files(group).get(name)
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines() if file else ():
        text = line.removeprefix("#").strip()
        if not line.startswith("#") or line.startswith("#  "):  # a command is indented
            break
        if not text.startswith("@package"):
            lines.append(text)
    return " ".join(lines).removesuffix(":")


def summary(group: str, name: str) -> str:
    """One sentence on an option: the first of its YAML's comment, or of the docstring of another package's class."""
    text = comment(group, name)
    if not text and (point := parts().get(group, {}).get(name)):
        text = _docstring(point) or point.value
    return first_sentence(text)


def _docstring(point: EntryPoint) -> str:
    """The first paragraph of the docstring of another package's class, read from its file; empty if it has none."""
    try:
        spec = importlib.util.find_spec(point.module)
    except ImportError:
        return f"{point.value}, which cannot be imported."
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    found = [item for item in tree.body if isinstance(item, ast.ClassDef) and item.name == point.attr]
    text = ast.get_docstring(found[0]) if found else None
    return " ".join((text or "").partition("\n\n")[0].split())


def first_sentence(text: str) -> str:
    """The first sentence of a text, with its full stop.

    >>> first_sentence("SNAS (Xie et al. 2019): relaxed samples. Rates are scaled.")
    'SNAS (Xie et al. 2019): relaxed samples.'
    """
    sentence = _SENTENCE.split(text, maxsplit=1)[0].rstrip(". ")
    return f"{sentence}." if sentence else ""


def papers(text: str) -> list[str]:
    """The numbers of the arXiv papers that a text names, in order.

    >>> papers("FBNet (arXiv:1812.03443, table 1)")
    ['1812.03443']
    """
    return list(dict.fromkeys(_ARXIV.findall(text)))
