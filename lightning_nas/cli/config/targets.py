"""Which classes a configuration may name: by prefix, and only what is really written there.

A configuration file may come from a stranger, so its ``_target_`` is refused unless

* it is written under one of ``WRITTEN``, every part of it a public module that exists as a file, the last a name in it
  (so ``lightning_nas.spaces.base.torch.load`` is no way through), and
* that name leads to a *class* that is *defined* under one of ``DEFINED`` (so neither is an import of such a module);
  functions are many and some write files, so none is named here.

The classes that other installed packages name in entry points are legal too (:mod:`lightning_nas.cli.plugins`).

``trusted_modules`` adds prefixes, for functions and private names too; dots count: ``mine`` allows ``mine.Net``, not
``mine2.Net``, and not what ``mine`` merely imports from elsewhere.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence

from lightning_nas.cli.config.source import Definition, find_module, lookup
from lightning_nas.cli.config.spelling import hint
from lightning_nas.cli.plugins import registered
from lightning_nas.errors import ConfigError, shown

_PARTS = (
    "callbacks",
    "children",
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


def resolve(target: object, key: str, trusted: Sequence[str] = ()) -> Definition | None:
    """The definition of an allowed target; None for one in trusted code that cannot be read. Nothing is imported.

    Args:
        target: the value of ``_target_``.
        key: where it stands, for the error.
        trusted: prefixes that the user allows.

    Raises:
        ConfigError: the target is not allowed, or there is no such thing.
    """
    if not isinstance(target, str) or len(target) > 200 or not _DOTTED.fullmatch(target):
        raise ConfigError(f"{key}: {shown(target)} is not the dotted name of a class")
    if target in registered():
        home = find_module(target.rpartition(".")[0])
        return lookup(home, target.rpartition(".")[2]) if home else None
    is_trusted = under(target, trusted)
    if not is_trusted and (not under(target, WRITTEN) or "._" in target):
        raise _refused(target, key, target)
    place, _, name = target.rpartition(".")
    module = find_module(place)
    if module and is_trusted and (not module.readable or "__getattr__" in module.bindings):
        return lookup(module, name)
    found = lookup(module, name) if module else None
    if found is None:
        raise _missing(target, key)
    is_public_class = under(found.full_name, DEFINED) and isinstance(found.node, ast.ClassDef)
    if not under(found.full_name, trusted) and not is_public_class:
        raise _refused(target, key, found.full_name)
    return found


def _refused(target: str, key: str, really: str) -> ConfigError:
    what = shown(target) if really == target else f"{shown(target)}, which is {shown(really)},"
    top, part = really.split(".")[:2]
    near = hint(part, _PARTS) if top == "lightning_nas" else f"add trusted_modules=[{top}] if you trust it"
    return ConfigError(f"{key}: {what} is refused: legal are public classes of {_SUMMARY}; {near}")


def _missing(target: str, key: str) -> ConfigError:
    place, _, name = target.rpartition(".")
    while place:
        if module := find_module(place):
            if find_module(f"{place}.{name}"):
                return ConfigError(f"{key}: {place}.{name} is a module, not a class")
            return ConfigError(f"{key}: no {shown(name)} in {place}; {hint(name, module.public_names())}")
        place, _, name = place.rpartition(".")
    return ConfigError(f"{key}: no package {shown(name)} is installed")
