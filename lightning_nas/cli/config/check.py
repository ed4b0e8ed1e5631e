"""The composed configuration, checked as a whole before anything it names is imported or read."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence, Set
from typing import Any

from omegaconf import DictConfig

from lightning_nas.cli.config.annotations import interpret
from lightning_nas.cli.config.kinds import BOOL, is_entry, one_of
from lightning_nas.cli.config.limits import limit, trainer_problem
from lightning_nas.cli.config.plain import join, plain, trusted_modules, walk
from lightning_nas.cli.config.signature import Parameter, Signature, signature
from lightning_nas.cli.config.source import Definition, find_module, lookup
from lightning_nas.cli.config.spelling import closest, hint
from lightning_nas.cli.config.targets import resolve
from lightning_nas.errors import ConfigError, shown

_SECTIONS = {"": "Run", "retrain": "Retrain", "resume": "Resume"}
_SPECIAL = {"_partial_": BOOL, "_recursive_": BOOL, "_convert_": one_of(["none", "partial", "all", "object"])}


def check(config: DictConfig, *, allowed: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration as plain dicts and lists, every interpolation resolved, every key and value legal.

    First every ``_target_`` at any depth is held against the allow-list (:mod:`lightning_nas.cli.config.targets`), then
    the top level against :mod:`lightning_nas.cli.config.schema`, then each entry against the signature of its target.

    Args:
        config: what Hydra composed.
        allowed: module prefixes to trust besides the configuration's own ``trusted_modules``.

    Raises:
        ConfigError: one line naming the full key, what came and what is legal.
    """
    content, late = plain(config)
    trusted = [*allowed, *trusted_modules(content)]
    entries = [
        (key, value, resolve(value["_target_"], join(key, "_target_"), trusted))
        for key, value in walk(content)
        if is_entry(value)
    ]
    _check_places(content, _schema(_SECTIONS[""]))
    for section, name in _SECTIONS.items():
        _check_section(section, name, content[section] if section else content)
    _check_stages(content["stages"])
    if problem := trainer_problem(content["trainer"]):
        raise ConfigError(f"trainer.{problem[0]}: {problem[1]}")
    for key, entry, definition in entries:
        _check_entry(key, entry, definition, late)
    return content


def _check_section(section: str, name: str, given: Any) -> None:
    if not isinstance(given, dict):
        raise ConfigError(f"{section}: got {shown(given)}; legal: mapping")
    fields = _schema(name)
    _check_names(section, given, fields, "the configuration")
    for key, parameter in fields.parameters.items():
        if join(section, key) not in _SECTIONS:
            kind = interpret(parameter.annotation, parameter.module)
            makes_nothing = "_target_" in kind.text or not any(is_entry(value) for _, value in walk(given[key]))
            _check_value(join(section, key), given[key], kind.text, kind.test(given[key]) and makes_nothing)


def _check_places(content: Mapping[Any, Any], legal: Signature) -> None:
    """Refuse what stands at the top and belongs in a section, such as ``limit`` or ``spos.limit`` of the strategy."""
    for name, value in content.items():
        if name in legal.parameters:
            continue
        keys = list(value) if isinstance(value, Mapping) else [name]
        homes = [
            own for own, held in content.items() if own != name and isinstance(held, Mapping) and {*keys} <= {*held}
        ]
        if keys and homes:
            meant = " or ".join(repr(join(home, keys[0])) for home in homes)
            key = join(name, keys[0]) if isinstance(value, Mapping) else join("", name)
            raise ConfigError(f"{key}: the configuration has no such key; did you mean {meant}?")


def _schema(name: str) -> Signature:
    module = find_module("lightning_nas.cli.config.schema")
    definition = lookup(module, name) if module else None
    if definition is None:
        raise RuntimeError(f"lightning_nas/config/schema.py has no {name}")
    return signature(definition)


def _check_stages(stages: list[str]) -> None:
    if stages not in (["search"], ["retrain"], ["search", "retrain"], ["ranking"]):
        raise ConfigError(f"stages: got {shown(stages)}; legal: [search], [retrain], [search,retrain], [ranking]")


def _check_entry(key: str, entry: dict[str, Any], definition: Definition | None, late: Set[str]) -> None:
    if "_args_" in entry:
        raise ConfigError(f"{join(key, '_args_')}: arguments are given by name here")
    for name, legal in _SPECIAL.items():
        if name in entry:
            _check_value(join(key, name), entry[name], legal.text, legal.test(entry[name]))
    if definition is None:
        return
    given = {name: value for name, value in entry.items() if name not in {"_target_", *_SPECIAL}}
    arguments = signature(definition)
    _check_names(key, given, arguments, definition.full_name, partial=entry.get("_partial_") is True)
    for name, value in given.items():
        if (parameter := arguments.parameters.get(name)) and join(key, name) not in late:
            for kind in (limit(definition.full_name, name), interpret(parameter.annotation, parameter.module)):
                _check_value(join(key, name), value, kind.text, kind.accepts(value) or _is_default(value, parameter))


def _is_default(value: Any, parameter: Parameter) -> bool:
    return value is None and isinstance(parameter.default, ast.Constant) and parameter.default.value is None


def _check_names(key: str, given: Mapping[Any, Any], legal: Signature, owner: str, *, partial: bool = False) -> None:
    for name in given:
        if name not in legal.parameters and not _may_be_other(name, legal):
            raise ConfigError(f"{join(key, name)}: {owner} has no such key; {hint(name, legal.parameters)}")
    for name, parameter in legal.parameters.items():
        if parameter.required and name not in given and not partial:
            raise ConfigError(f"{join(key, name)} must be given, e.g. {join(key, name)}=...")


def _may_be_other(name: Any, legal: Signature) -> bool:
    """Where a constructor takes any name, one that is almost a known name is still a misspelling."""
    return legal.open and isinstance(name, str) and not closest(name, legal.parameters, cutoff=0.9)


def _check_value(key: str, value: Any, legal: str, is_legal: bool) -> None:
    if not is_legal:
        raise ConfigError(f"{key}: got {shown(value)}; legal: {legal if len(legal) <= 200 else legal[:200] + '...'}")
