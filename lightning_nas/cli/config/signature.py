"""What a class or function can be given, read from its source: the constructor is the schema of its YAML."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from lightning_nas.cli.config.source import Definition, Module, definition_of

_DEPTH = 12
_PLAIN_DECORATORS = {"final", "runtime_checkable", "total_ordering"}


@dataclass(frozen=True)
class Parameter:
    """One argument that can be given by name; ``module`` is where its annotation's names have their meaning."""

    annotation: ast.expr | None
    module: Module
    default: ast.expr | None
    required: bool


@dataclass(frozen=True)
class Signature:
    """Arguments by name; ``open`` if others may be given too, or not all could be found."""

    parameters: dict[str, Parameter]
    open: bool


_UNKNOWN = Signature({}, open=True)
_EMPTY = Signature({}, open=False)


def signature(definition: Definition) -> Signature:
    """The arguments of a function, or of a class's constructor with what it hands on to its bases.

    >>> from lightning_nas.cli.config.source import find_module, lookup
    >>> found = signature(lookup(find_module("lightning_nas.errors"), "shown"))
    >>> {name: parameter.required for name, parameter in found.parameters.items()}
    {'value': True, 'limit': False}
    """
    return _signature(definition, _DEPTH)


def _signature(definition: Definition, depth: int) -> Signature:
    node, module = definition.node, definition.module
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        parameters, rest = _arguments(node, module, skip=0)
        return Signature(parameters, open=rest is not None)
    if not isinstance(node, ast.ClassDef) or not depth:
        return _UNKNOWN
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    constructor = methods.get("__init__") or methods.get("__new__")
    if constructor is None:
        decorators = {_last_word(decorator) for decorator in node.decorator_list}
        if "dataclass" in decorators:
            return _fields(node, module, depth)
        return _bases(node, module, depth) if decorators <= _PLAIN_DECORATORS else _UNKNOWN
    parameters, rest = _arguments(constructor, module, skip=1)
    if rest is None:
        return Signature(parameters, open=False)
    return _merged(parameters, _handed_on(constructor, rest), _bases(node, module, depth))


def _bases(node: ast.ClassDef, module: Module, depth: int) -> Signature:
    """The constructor of the first base that has one; a class without any takes nothing."""
    if any(keyword.arg == "metaclass" and _last_word(keyword.value) != "ABCMeta" for keyword in node.keywords):
        return _UNKNOWN
    for base in node.bases:
        name = base.value if isinstance(base, ast.Subscript) else base
        if _last_word(name) in {"object", "ABC", "Generic", "Protocol"}:
            continue
        found = definition_of(name, module)
        is_class = found is not None and isinstance(found.node, ast.ClassDef)
        inherited = _signature(found, depth - 1) if found and is_class else _UNKNOWN
        if inherited != _EMPTY:
            return inherited
    return _EMPTY


def _arguments(
    function: ast.FunctionDef | ast.AsyncFunctionDef, module: Module, skip: int
) -> tuple[dict[str, Parameter], str | None]:
    """The parameters that have a name to give, and the name of ``**kwargs``."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    missing = [None] * (len(positional) - len(arguments.defaults))
    pairs = list(zip(positional, [*missing, *arguments.defaults], strict=True))
    pairs = pairs[max(skip, len(arguments.posonlyargs)) :]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    parameters = {a.arg: Parameter(a.annotation, module, default, default is None) for a, default in pairs}
    return parameters, arguments.kwarg.arg if arguments.kwarg else None


def _handed_on(function: ast.FunctionDef, rest: str) -> ast.Call | None:
    """The call ``super().__init__(..., **rest)``, if that is all that happens to ``rest``."""
    uses = sum(isinstance(node, ast.Name) and node.id == rest for node in ast.walk(function))
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__":
            passed = any(k.arg is None and isinstance(k.value, ast.Name) and k.value.id == rest for k in node.keywords)
            return node if passed and uses == 1 else None
    return None


def _merged(own: dict[str, Parameter], call: ast.Call | None, base: Signature) -> Signature:
    if call is None or any(isinstance(argument, ast.Starred) for argument in call.args):
        return Signature(own, open=True)
    taken = {*list(base.parameters)[: len(call.args)], *(keyword.arg for keyword in call.keywords)}
    inherited = {name: value for name, value in base.parameters.items() if name not in {*taken, *own}}
    return Signature(own | inherited, base.open)  # own first: the order of what can be given by position


def _fields(node: ast.ClassDef, module: Module, depth: int) -> Signature:
    base = _bases(node, module, depth)
    own = {name: parameter for name, parameter in _own_fields(node, module) if parameter}
    return Signature(base.parameters | own, base.open)


def _own_fields(node: ast.ClassDef, module: Module) -> Iterator[tuple[str, Parameter | None]]:
    for item in node.body:
        match item:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                kind = annotation.value if isinstance(annotation, ast.Subscript) else annotation
                if _last_word(kind) in {"ClassVar", "KW_ONLY"}:
                    continue
                options: dict[str | None, ast.expr] = {}
                if isinstance(value, ast.Call) and _last_word(value.func) == "field":
                    options = {keyword.arg: keyword.value for keyword in value.keywords}
                    value = options.get("default")
                required = value is None and "default_factory" not in options
                given = ast.unparse(options["init"]) != "False" if "init" in options else True
                yield name, Parameter(annotation, module, value, required) if given else None


def _last_word(node: ast.expr) -> str:
    match node:
        case ast.Call(func=function):
            return _last_word(function)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""
