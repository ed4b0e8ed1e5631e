"""Python modules read as text: where they lie, what they define, and where an imported name was really written.

Nothing is imported, so nothing runs: a configuration can be judged before any code it names, and without torch.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_HOPS = 8


@dataclass(frozen=True)
class Imported:
    """``from module import name``, or ``import module`` if ``name`` is empty."""

    module: str
    name: str


Binding = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.expr | Imported


@dataclass(frozen=True)
class Module:
    """What the text of one module says.

    Attributes:
        name: dotted.
        readable: False for compiled modules, whose names are not known.
        bindings: top-level names, also those inside ``if`` and ``try``; a definition wins over an import.
        stars: modules of ``from module import *``.
        folders: where the modules of a package lie.
    """

    name: str
    readable: bool = True
    bindings: dict[str, Binding] = field(default_factory=dict)
    stars: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()

    def public_names(self) -> set[str]:
        """What may follow the module's name and a dot."""
        files = {path.stem for folder in self.folders for path in folder.iterdir() if path.suffix in ("", ".py")}
        return {name for name in files | self.bindings.keys() if not name.startswith((".", "_"))}


@dataclass(frozen=True)
class Definition:
    """A class, a function, or the right-hand side of an assignment, in the module where it stands."""

    module: Module
    name: str
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.expr

    @property
    def full_name(self) -> str:
        """Dotted name of the place of definition."""
        return f"{self.module.name}.{self.name}"


@cache
def find_module(name: str) -> Module | None:
    """The module called ``name``, or None if there is no such file.

    >>> find_module("lightning_nas.errors").bindings["ConfigError"].name
    'ConfigError'
    """
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)  # of a top-level name this looks for files and imports nothing
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    for part in rest:
        found = next((hit for folder in folders if (hit := _inside(folder, part))), None)
        if found is None:
            return None
        file, folders = found
    if file is None or file.suffix != ".py":
        return Module(name, readable=file is None and bool(folders), folders=tuple(folders))
    return _read(name, file, tuple(folders))


def lookup(module: Module, name: str, hops: int = _HOPS) -> Definition | None:
    """Where ``name``, as seen in ``module``, is defined; follows at most ``hops`` imports."""
    binding = module.bindings.get(name)
    if binding is None:
        sources: Iterable[Imported] = () if name.startswith("_") else (Imported(star, name) for star in module.stars)
    elif isinstance(binding, Imported):
        sources = (binding,) if binding.name else ()
    else:
        return Definition(module, name, binding)
    for source in sources:
        origin = find_module(source.module) if hops else None
        if origin and (found := lookup(origin, source.name, hops - 1)):
            return found
    return None


def definition_of(expression: ast.expr, module: Module) -> Definition | None:
    """What a name or a dotted name, written in ``module``, stands for."""
    match expression:
        case ast.Name(id=name):
            return lookup(module, name)
        case ast.Attribute(value=value, attr=name):
            owner = _module_of(value, module)
            return lookup(owner, name) if owner else None
    return None


def _module_of(expression: ast.expr, module: Module) -> Module | None:
    match expression:
        case ast.Name(id=name):
            binding = module.bindings.get(name)
            if isinstance(binding, Imported):
                return find_module(f"{binding.module}.{binding.name}".rstrip("."))
        case ast.Attribute(value=value, attr=name):
            owner = _module_of(value, module)
            return find_module(f"{owner.name}.{name}") if owner else None
    return None


def _inside(folder: Path, part: str) -> tuple[Path | None, list[Path]] | None:
    package = folder / part
    if (package / "__init__.py").is_file():
        return package / "__init__.py", [package]
    if (folder / f"{part}.py").is_file():
        return folder / f"{part}.py", []
    if compiled := next((path for end in ("so", "pyd") for path in folder.glob(f"{part}.*{end}")), None):
        return compiled, []
    return (None, [package]) if package.is_dir() else None


def _read(name: str, file: Path, folders: tuple[Path, ...]) -> Module:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return Module(name, readable=False, folders=folders)
    package = name.split(".") if folders else name.split(".")[:-1]
    bindings: dict[str, Binding] = {}
    stars = []
    for statement in _statements(tree.body):
        match statement:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                bindings[statement.name] = statement
            case ast.ImportFrom():
                above = package[: len(package) - statement.level + 1] if statement.level else []
                origin = ".".join([*above, *([statement.module] if statement.module else [])])
                for alias in statement.names:
                    if alias.name == "*":
                        stars.append(origin)
                    else:
                        bindings.setdefault(alias.asname or alias.name, Imported(origin, alias.name))
            case (
                ast.Assign(targets=[ast.Name(id=target)], value=value)
                | ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value)
            ):
                bindings.setdefault(target, value)
    return Module(name, bindings=bindings, stars=tuple(stars), folders=folders)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _statements(statement.body)
            yield from _statements(getattr(statement, "orelse", ()))
            for handler in getattr(statement, "handlers", ()):
                yield from _statements(handler.body)
