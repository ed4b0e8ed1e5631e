"""The check of what Hydra itself runs for a configuration, while it composes and before it acts.

Hydra makes the objects of ``hydra.callbacks``, ``hydra.launcher`` and ``hydra.sweeper``, and gives its logging sections
to :mod:`logging.config`, where ``()`` and ``class`` name any function to call. All of this happens before the command's
own function is called, and a stranger's overlay can set it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from lightning_nas.cli.config.kinds import is_entry
from lightning_nas.cli.config.moved import modernise
from lightning_nas.cli.config.plain import join, trusted_modules, walk
from lightning_nas.cli.config.targets import check_target
from lightning_nas.errors import ConfigError, shown

_PARTS = ("launcher", "sweeper", "callbacks")
HYDRAS_OWN = ("hydra._internal.core_plugins", "hydra_plugins", "optuna.samplers", "lightning_nas.cli.sweep")
_LOGGING = ("hydra_logging", "job_logging")
_CALLABLE = (
    "colorlog.ColoredFormatter",
    "logging.FileHandler",
    "logging.Formatter",
    "logging.NullHandler",
    "logging.StreamHandler",
    "logging.handlers.RotatingFileHandler",
    "rich.logging.RichHandler",
)
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_TRUSTING = re.compile(r"\+{0,2}trusted_modules=")
_MAKERS = {"oc.create": oc.create, "oc.decode": oc.decode}


@contextmanager
def guarded() -> Iterator[None]:
    """A context in which every configuration that Hydra composes passes :func:`check_composition` first.

    Targets that have moved get their present names. The interpolations that make an entry of text (``oc.create``,
    ``oc.decode``) are unknown in the context.
    """
    load = ConfigLoaderImpl.load_configuration

    def checked(
        self: ConfigLoaderImpl, config_name: str | None, overrides: list[str], *args: Any, **kwargs: Any
    ) -> DictConfig:
        config: DictConfig = load(self, config_name, overrides, *args, **kwargs)
        modernise(config)
        check_composition(config, overrides)
        return config

    for name in _MAKERS:
        OmegaConf.clear_resolver(name)
    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
        for name, resolver in _MAKERS.items():
            OmegaConf.register_new_resolver(name, resolver)  # type: ignore[arg-type]


def check_composition(config: DictConfig, overrides: Sequence[str]) -> None:
    """Check every target of a configuration, and the settings that Hydra acts on, before interpolations are resolved.

    Args:
        config: the composed configuration with its ``hydra`` node.
        overrides: the overrides on the command line. Only they may set ``trusted_modules``: a file could trust the
            classes that it names.

    Raises:
        ConfigError: one line naming the key.
    """
    content: Any = OmegaConf.to_container(config, resolve=False)
    trusted = [*HYDRAS_OWN, *trusted_modules(content)]
    if len(trusted) > len(HYDRAS_OWN) and not any(_TRUSTING.match(override) for override in overrides):
        names = ",".join(trusted[len(HYDRAS_OWN) :])
        raise ConfigError(f"trusted_modules may only be set on the command line: trusted_modules=[{names}]")
    for key, value in walk(content):
        if is_entry(value):
            check_target(value["_target_"], join(key, "_target_"), trusted)
    hydra = content["hydra"]
    for part in _PARTS:
        _literal(hydra[part], f"hydra.{part}")
    for name, callback in (hydra["callbacks"] or {}).items():
        _literal(callback, join("hydra.callbacks", name))
    for part in _LOGGING:
        _check_logging(hydra[part], f"hydra.{part}")
    if hydra["job"]["env_set"]:
        raise ConfigError("hydra.job.env_set: a configuration may not set environment variables; set them in the shell")


def _literal(value: Any, key: str) -> dict[Any, Any]:
    if not isinstance(value, dict | None):
        raise ConfigError(f"{key}: got {shown(value)}; legal: a mapping, no interpolation")
    return value or {}


def _check_logging(section: Any, key: str) -> None:
    for part in ("formatters", "filters", "handlers"):
        items = _literal(_literal(section, key).get(part), f"{key}.{part}")
        for name, item in items.items():
            _literal(item, join(f"{key}.{part}", name))
    for where, value in walk(section, key):
        if isinstance(value, str) and "://" in value and value not in _STREAMS:
            raise ConfigError(f"{where}: got {shown(value)}; legal: {', '.join(_STREAMS)}")
        if where.endswith(".filename") and not (isinstance(value, str) and value.endswith(".log")):
            raise ConfigError(f"{where}: got {shown(value)}; legal: a name that ends with .log")
        for word in ("()", "class") if isinstance(value, dict) else ():
            if word in value and value[word] not in _CALLABLE:
                legal = ", ".join(_CALLABLE)
                raise ConfigError(f"{join(where, word)}: {shown(value[word])} is refused; legal: {legal}")
