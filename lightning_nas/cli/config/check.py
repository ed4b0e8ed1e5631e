"""The check of a composed configuration as a whole, before anything is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Literal

from omegaconf import DictConfig

from lightning_nas.cli.config.bounds import LARGEST
from lightning_nas.cli.config.models import SIZES, check_model, is_choice
from lightning_nas.cli.config.moved import modernise
from lightning_nas.cli.config.plain import join, plain, trusted_modules, walk
from lightning_nas.cli.config.signature import Signature, signature
from lightning_nas.cli.config.spelling import closest, hint
from lightning_nas.cli.config.targets import PLACES, check_target, full_name, is_a, resolve
from lightning_nas.errors import ConfigError, shown
from lightning_nas.kinds import Kind, is_entry, kind
from lightning_nas.spaces.builders import under

_STAGES = (
    *(["search"], ["retrain"], ["search", "retrain"], ["retrain", "export"], ["search", "retrain", "export"]),
    ["ranking"],
)
_SPECIAL = {"_partial_": bool, "_recursive_": bool, "_convert_": Literal["none", "partial", "all", "object"]}


def check(config: DictConfig, *, allowed: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration as plain dicts and lists, every interpolation resolved, every key and value legal.

    Checks in this order: every ``_target_`` at any depth against the allow-list
    (:mod:`lightning_nas.cli.config.targets`), the top level against :mod:`lightning_nas.cli.config.schema`, then each
    entry against the signature of its target. Only the last step imports targets, and torch with them.

    Args:
        config: what Hydra composed. Targets that have moved get their present names in it.
        allowed: module prefixes to trust besides the configuration's own ``trusted_modules``.

    Raises:
        ConfigError: one line that names the full key, what came and what is legal.
    """
    modernise(config)
    content, late = plain(config)
    trusted = [*allowed, *trusted_modules(content)]
    entries = [(key, value) for key, value in walk(content) if is_entry(value)]
    for key, entry in entries:
        check_target(entry["_target_"], join(key, "_target_"), trusted)
        check_model(key, entry)
    _check_top(content)
    found = [(key, entry, resolve(entry["_target_"], join(key, "_target_"), trusted)) for key, entry in entries]
    for key, entry, made in found:
        if not under(full_name(made), trusted):
            _check_kind(key, made)
        _check_entry(key, entry, made, late)
    for key, value in walk(content):
        if isinstance(value, (int, float)) and not -LARGEST <= value <= LARGEST:
            raise ConfigError(f"{key}: got {shown(value)}; a number of a configuration is finite and at most 1e12")
    return content


def _check_top(content: dict[str, Any]) -> None:
    """The keys and values of the schema, and the flags of the Trainer that a search cannot work with."""
    from lightning_nas.cli.config.limits import trainer_problem
    from lightning_nas.cli.config.schema import Export, Resume, Retrain, Run

    _check_places(content, signature(Run))
    sections = {"": Run, "retrain": Retrain, "resume": Resume, "export": Export}
    for section, fields in sections.items():
        given = content[section] if section else content
        if not isinstance(given, dict):
            raise ConfigError(f"{section}: got {shown(given)}; legal: mapping")
        legal = _written(signature(fields))
        _check_names(section, given, legal, "the configuration")
        for name, argument in legal.arguments.items():
            key = join(section, name)
            if key not in sections and name in given:
                _check_value(key, given[name], kind(argument.annotation))
    if content["stages"] not in _STAGES:
        legal_stages = ", ".join(f"[{','.join(stages)}]" for stages in _STAGES)
        raise ConfigError(f"stages: got {shown(content['stages'])}; legal: {legal_stages}")
    if problem := trainer_problem(content["trainer"]):
        raise ConfigError(f"trainer.{problem[0]}: {problem[1]}")


def _written(legal: Signature) -> Signature:
    """The arguments by their names in a configuration: ``from_`` stands for a word that Python keeps for itself."""
    named = {name.removesuffix("_"): argument for name, argument in legal.arguments.items()}
    return Signature(named, legal.open)


def _check_places(content: Mapping[Any, Any], legal: Signature) -> None:
    """Refuse a key at the top that belongs in a section, such as ``limit`` or ``spos.limit`` of the strategy."""
    for name, value in content.items():
        if name in legal.arguments:
            continue
        keys = list(value) if isinstance(value, Mapping) else [name]
        homes = [
            own for own, held in content.items() if own != name and isinstance(held, Mapping) and {*keys} <= {*held}
        ]
        if keys and homes:
            meant = " or ".join(repr(join(home, keys[0])) for home in homes)
            key = join(name, keys[0]) if isinstance(value, Mapping) else join("", name)
            raise ConfigError(f"{key}: the configuration has no such key; did you mean {meant}?")


def _check_kind(key: str, made: Callable[..., Any]) -> None:
    """Refuse an entry that makes something else than its place is for; what a function makes is not known."""
    place, _, name = key.partition(".")
    legal = PLACES.get(place if name and place in ("callbacks", "logger") and "." not in name else key)
    if legal and isinstance(made, type) and not is_a(made, legal):
        words = " or ".join(kind.rpartition(".")[2] for kind in legal)
        raise ConfigError(f"{key}: {shown(full_name(made))} is refused; legal: a class that derives from {words}")


def _check_entry(key: str, entry: dict[str, Any], made: Callable[..., Any], late: Set[str]) -> None:
    from lightning_nas.cli.config.limits import limit

    if "_args_" in entry:
        raise ConfigError(f"{join(key, '_args_')}: arguments are given by name here")
    for name, annotation in _SPECIAL.items():
        if name in entry:
            _check_value(join(key, name), entry[name], kind(annotation))
    given = {name: value for name, value in entry.items() if name not in {"_target_", *_SPECIAL}}
    legal = signature(made)
    defined = full_name(made)
    _check_names(key, given, legal, defined, partial=entry.get("_partial_") is True)
    for name, value in given.items():
        argument = legal.arguments.get(name)
        if argument is None or join(key, name) in late or (value is None and argument.default is None):
            continue
        if is_choice(key) and value in SIZES:
            continue
        for annotation in (limit(defined, name), argument.annotation):
            _check_value(join(key, name), value, kind(annotation))


def _check_names(key: str, given: Mapping[Any, Any], legal: Signature, owner: str, *, partial: bool = False) -> None:
    for name in given:
        if name not in legal.arguments and not _may_be_other(name, legal):
            raise ConfigError(f"{join(key, name)}: {owner} has no such key; {hint(name, legal.arguments)}")
    for name, argument in legal.arguments.items():
        if argument.required and name not in given and not partial:
            raise ConfigError(f"{join(key, name)} must be given, e.g. {join(key, name)}=...")


def _may_be_other(name: Any, legal: Signature) -> bool:
    """Where a constructor takes any name, one that is almost a known name is still a misspelling."""
    return legal.open and isinstance(name, str) and not closest(name, legal.arguments, cutoff=0.9)


def _check_value(key: str, value: Any, legal: Kind) -> None:
    if not legal.accepts(value):
        text = legal.text if len(legal.text) <= 200 else f"{legal.text[:200]}..."
        raise ConfigError(f"{key}: got {shown(value)}; legal: {text}")
