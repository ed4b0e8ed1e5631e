"""The classes that a configuration may name: an allow-list of prefixes, by name and by place of definition.

A configuration file may come from a stranger, so a ``_target_`` is refused unless

* its name begins with a prefix in ``WRITTEN`` and has no private part. This check imports nothing, so that no file runs
  the code of a module that is not on the list.
* Every part of the name but the last is a module (``lightning_nas.spaces.base.torch.load`` is not legal), and the last
  is a *class* that is *defined* under a prefix in ``DEFINED``. A class that a module merely imports is not legal, nor
  is any function: there are many, and some write files.

The classes that other installed packages name in entry points are legal too (:mod:`lightning_nas.cli.plugins`).

``trusted_modules`` adds prefixes, for functions and private names too. Dots count: ``mine`` allows ``mine.Net``, not
``mine2.Net``, and not what ``mine`` merely imports from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from lightning_nas.cli.config.spelling import hint
from lightning_nas.cli.plugins import registered
from lightning_nas.errors import ConfigError, shown

_PARTS = (
    "callbacks",
    "data",
    "latency",
    "report",
    "spaces",
    "strategies",
    "tasks",
    "training",
    "trials",
    "truth",
)
_HOUSE = tuple(f"lightning_nas.{part}" for part in _PARTS)
WRITTEN = (
    *_HOUSE,
    "torch.optim",
    "pytorch_lightning.Trainer",
    *(f"pytorch_lightning.{part}" for part in ("callbacks", "loggers", "plugins", "strategies")),
    "torchmetrics",
    "torchvision.transforms",
)
# torchmetrics.text, .image and .multimodal stay out: their models are loaded or downloaded from where the caller says
DEFINED = (
    *_HOUSE,
    "torch.optim",
    "pytorch_lightning.trainer.trainer.Trainer",
    *(f"pytorch_lightning.{part}" for part in ("callbacks", "loggers", "plugins", "strategies")),
    "lightning_fabric.plugins",
    *(f"torchmetrics.{part}" for part in ("aggregation", "classification", "regression", "segmentation")),
    "torchvision.transforms",
)
_SUMMARY = (
    "lightning_nas, torch.optim, pytorch_lightning (Trainer, callbacks, loggers, plugins, strategies), torchmetrics "
    "(aggregation, classification, regression, segmentation), torchvision.transforms"
)
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


def under(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a dotted name is one of the prefixes or lies below one.

    >>> under("mine.Net", ["mine"]), under("mine2.Net", ["mine"])
    (True, False)
    """
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def full_name(made: Any) -> str:
    """The dotted name of the place where a class or function is defined.

    >>> full_name(re.compile)
    're.compile'
    """
    return f"{getattr(made, '__module__', None)}.{getattr(made, '__qualname__', type(made).__name__)}"


def check_target(target: object, key: str, trusted: Sequence[str] = ()) -> str:
    """The target, if its name is on the allow-list. Nothing is imported.

    Args:
        target: the value of ``_target_``.
        key: the full key of the target, for the error.
        trusted: prefixes that the user allows.

    Raises:
        ConfigError: the target is not allowed.
    """
    if not isinstance(target, str) or len(target) > 200 or not _DOTTED.fullmatch(target):
        raise ConfigError(f"{key}: {shown(target)} is not the dotted name of a class")
    allowed = under(target, WRITTEN) and "._" not in target
    if not allowed and not under(target, trusted) and target not in registered():
        raise _refused(target, key, target)
    return target


def resolve(target: object, key: str, trusted: Sequence[str] = ()) -> Callable[..., Any]:
    """The class of an allowed target, or the function if it is trusted; imports its module.

    Args:
        target: the value of ``_target_``.
        key: the full key of the target, for the error.
        trusted: prefixes that the user allows. A full name may be defined anywhere.

    Raises:
        ConfigError: the target is not allowed, or does not exist.
    """
    name = check_target(target, key, trusted)
    found = _imported(name, key)
    defined = full_name(found)
    is_trusted = name in (*trusted, *registered()) or under(defined, trusted)
    if not is_trusted and not (isinstance(found, type) and under(defined, DEFINED)):
        raise _refused(name, key, defined)
    if not callable(found):
        raise ConfigError(f"{key}: {name} is no class but a {type(found).__name__}")
    made: Callable[..., Any] = found
    return made


def _imported(target: str, key: str) -> Any:
    """The object of a name; each part but the last must be a module, so that nothing a module imports is reached."""
    place, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(place), name)
    except ModuleNotFoundError as error:
        if not under(place, [str(error.name)]):
            raise ConfigError(f"{key}: {place} needs the package {error.name}, which is not installed") from None
        raise _missing(place, name, key) from None
    except AttributeError:
        raise _missing(place, name, key) from None
    if isinstance(found, ModuleType):
        raise ConfigError(f"{key}: {target} is a module, not a class")
    return found


def _missing(place: str, name: str, key: str) -> ConfigError:
    while place:
        try:
            module = import_module(place)
        except ModuleNotFoundError:
            place, _, name = place.rpartition(".")
            continue
        inside = {found.name for found in iter_modules(getattr(module, "__path__", ()))}
        if name in inside:
            return ConfigError(f"{key}: {place}.{name} is a module, not a class")
        if isinstance(getattr(module, name, None), type):
            return ConfigError(f"{key}: {place}.{name} is a class, not a module")
        own = {word for word in dir(module) if not isinstance(vars(module).get(word), ModuleType)}
        legal = [word for word in own | inside if not word.startswith("_")]
        return ConfigError(f"{key}: no {shown(name)} in {place}; {hint(name, legal)}")
    return ConfigError(f"{key}: no package {shown(name)} is installed")


def _refused(target: str, key: str, defined: str) -> ConfigError:
    what = shown(target) if defined == target else f"{shown(target)}, which is {shown(defined)},"
    top, part = [*defined.split("."), ""][:2]
    near = hint(part, _PARTS) if top == "lightning_nas" else f"add trusted_modules=[{top}] if you trust it"
    return ConfigError(f"{key}: {what} is refused: legal are public classes of {_SUMMARY}; {near}")
