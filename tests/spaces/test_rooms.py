"""Rooms of search spaces: a family imports no other family, and its first page names its files and spaces."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightning_nas.spaces

SPACES = Path(lightning_nas.spaces.__file__).parent
PACKAGE = lightning_nas.spaces.__name__
ROOMS = sorted(path.parent.name for path in SPACES.glob("*/__init__.py"))
FAMILIES = [room for room in ROOMS if room != "cells"]


def imported(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports, without the package's name."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}."))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_imports_no_other_family(family: str) -> None:
    others = {module.partition(".")[0] for path in (SPACES / family).glob("*.py") for module in imported(path)}
    assert others & set(FAMILIES) <= {family}


def test_what_families_share_imports_no_family() -> None:
    shared = [*SPACES.glob("*.py"), *(SPACES / "cells").glob("*.py")]
    found = {path.name: module for path in shared for module in imported(path) if module.partition(".")[0] in FAMILIES}
    assert not found


def spaces_of(path: Path) -> list[str]:
    """Classes of a file whose constructor is decorated: those that take ``input_shape``."""
    classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    decorated = {c.name: [f for f in c.body if isinstance(f, ast.FunctionDef) and f.decorator_list] for c in classes}
    return [name for name, functions in decorated.items() if any(f.name == "__init__" for f in functions)]


@pytest.mark.parametrize("room", ROOMS)
def test_the_first_page_of_a_room_names_its_files_and_spaces(room: str) -> None:
    page = ast.get_docstring(ast.parse((SPACES / room / "__init__.py").read_text()))
    assert page
    for path in (path for path in (SPACES / room).glob("*.py") if path.stem != "__init__"):
        assert f"``{path.stem}``" in page
        assert all(f".{path.stem}.{space}`" in page for space in spaces_of(path))


def test_spaces_are_found_by_their_constructors() -> None:
    found = [name for room in ROOMS for path in (SPACES / room).glob("*.py") for name in spaces_of(path)]
    assert {"FBNetSpace", "DARTSSpace", "ENASMicroNetworks", "NASRLRNNSpace"} <= set(found)
    assert len(found) == 28
