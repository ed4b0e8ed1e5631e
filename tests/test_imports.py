"""Imports go one way, and printing a configuration must not import torch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lightning_nas"
# from the ground up; a part imports only from rows below its own, or from its own row if no circle comes of it
LEVELS = [
    {
        "",
        "errors",
        "files",
        "bars",
        "architecture",
        "moved",
        "ranges",
        "kinds",
        "signature",
        "conf",
        "onnx_model",
        "processes",
    },
    {"functional"},
    {"ops", "choice"},
    {"spaces"},
    {"latency", "tasks", "training", "data", "zoo", "proxies"},
    {"truth"},
    {"trials"},
    {"strategies"},
    {"callbacks", "report", "export"},
    {"experiment", "testing"},
    {"cli"},
    {"run", "__main__"},
]
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}
# commands parse their arguments through lightning_nas.cli.command; nothing of it may reach back
COMMANDS = {"latency.__main__"}
LIGHT = ["", "moved", "errors", "files", "architecture", "cli.command", "run", "cli.sweep", "latency.__main__"]
LIGHT += ["__main__", "conf", "cli.main", "cli.listing", "cli.explain", "cli.search_path"]
HEAVY = {
    "torch",
    "torchvision",
    "torchmetrics",
    "pytorch_lightning",
    "lightning_fabric",
    "wandb",
    "matplotlib",
    "sklearn",
}
CONFIGURERS = {"hydra", "omegaconf"}


def modules() -> dict[str, Path]:
    """Dotted names below the package ('' is the package itself) and their files."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imports(name: str, *, at_start: bool) -> Iterator[str]:
    """Full dotted names that a module imports; ``at_start`` leaves out functions and ``if TYPE_CHECKING``."""
    pending: list[ast.AST] = [ast.parse(MODULES[name].read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif at_start and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        else:
            pending += ast.iter_child_nodes(node)


def house(name: str, *, at_start: bool) -> set[str]:
    """The modules of this package that a module imports."""
    found = set()
    for full in imports(name, at_start=at_start):
        top, _, inside = full.partition(".")
        if top == "lightning_nas":
            while inside and inside not in MODULES:
                inside = inside.rpartition(".")[0]
            found.add(inside)
    return found


def part(name: str) -> str:
    return name.split(".")[0]


def test_every_part_has_a_level() -> None:
    assert {part(name) for name in MODULES} == LEVEL.keys()


def test_nothing_imports_upward() -> None:
    upward = [
        f"{name} imports {other}"
        for name in MODULES
        for other in house(name, at_start=not name)
        if LEVEL[part(other)] > LEVEL[part(name)] and not (name in COMMANDS and other.startswith("cli."))
    ]
    assert not upward


def test_only_the_command_line_knows_hydra() -> None:
    found = {name for name in MODULES for full in imports(name, at_start=False) if full.split(".")[0] in CONFIGURERS}
    assert found <= {"run", *(name for name in MODULES if part(name) == "cli")}
    assert found


def test_there_is_no_circle_between_parts() -> None:
    edges: dict[str, set[str]] = {p: set() for p in LEVEL}
    for name in MODULES.keys() - COMMANDS:
        edges[part(name)] |= {part(other) for other in house(name, at_start=False)} - {part(name), ""}
    while free := {p for p, needed in edges.items() if not needed}:
        edges = {p: needed - free for p, needed in edges.items() if p not in free}
    assert not edges


def test_there_is_no_circle_between_modules() -> None:
    edges = {name: house(name, at_start=True) - {name, ""} for name in MODULES}
    while free := {name for name, needed in edges.items() if not needed}:
        edges = {name: needed - free for name, needed in edges.items() if name not in free}
    assert not edges


@pytest.mark.parametrize("name", [*LIGHT, *(name for name in MODULES if name.startswith("cli.config"))])
def test_what_composes_a_configuration_imports_nothing_heavy(name: str) -> None:
    reached, pending = {name}, {name}
    while pending:
        current = pending.pop()
        heavy = {full.split(".")[0] for full in imports(current, at_start=True)} & HEAVY
        assert not heavy, f"{current} imports {heavy} at its start"
        # importing a.b runs a as well
        for other in house(current, at_start=True) | {current}:
            steps = other.split(".")
            pending |= {".".join(steps[:i]) for i in range(len(steps) + 1)} - reached
        reached |= pending
