"""Build hooks of the documentation site: pages from files outside ``docs``, links to sources, names of the API.

MkDocs calls these functions; ``mkdocs.yml`` names this file.
"""

import ast
import logging
import posixpath
import re
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# pages of the site whose source lies outside docs/
OUTSIDE = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "benchmarks.md": "benchmarks/README.md",
    "nasbench201_trials.svg": "benchmarks/nasbench201_trials.svg",
}
PAGES = {source: page for page, source in OUTSIDE.items()} | {"README.md": "index.md"}
WHOLE_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
PUBLIC = re.compile(r"^::: ln\.(\w+)$", re.MULTILINE)
log = logging.getLogger("mkdocs.hooks")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages whose source lies outside ``docs``."""
    for page, source in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links to where their targets are on the site, and names of the API to where they are defined."""
    del files
    here = page.file.src_uri
    source = OUTSIDE.get(here, f"docs/{here}")

    def target(link: str) -> str | None:
        """The site's page for a link of the source file; None if the site has none."""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        found = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        return found and posixpath.relpath(found, posixpath.dirname(here) or ".")

    def moved(match: re.Match[str]) -> str:
        text, link, anchor = match.groups()
        if found := target(link):
            return f"[{text}]({found}{anchor or ''})"
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if not (ROOT / path).exists():
            log.warning("%s links to %s, which does not exist", source, path)
        return f"[{text}]({config['repo_url']}/blob/main/{path})" if config["repo_url"] else text

    markdown = WHOLE_LINK.sub(moved, markdown)
    return PUBLIC.sub(lambda match: f"::: {_defined(match[1])}", markdown)


@cache
def _definitions() -> dict[str, list[str]]:
    """Full names of all top-level classes and functions of the package, by their short names."""
    found: dict[str, list[str]] = {}
    for file in sorted((ROOT / "lightning_nas").rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found.setdefault(node.name, []).append(f"{module}.{node.name}")
    return found


@cache
def _public() -> dict[str, str]:
    """Full names of what ``lightning_nas`` itself offers, as its table of names says."""
    tree = ast.parse((ROOT / "lightning_nas" / "__init__.py").read_text(encoding="utf-8"))
    [table] = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME"
    ]
    return {name: f"lightning_nas.{home}.{name}" for name, home in ast.literal_eval(table).items()}


def _defined(name: str) -> str:
    """The full name of a class or function, wherever it is defined today."""
    found = [_public()[name]] if name in _public() else _definitions().get(name, [])
    if len(found) != 1:
        log.warning("ln.%s is defined in %d places (%s); write its full name", name, len(found), ", ".join(found))
    return found[0] if found else name
