"""The check of what Hydra itself runs for a configuration, while it composes and before it acts.

Hydra makes the objects of ``hydra.callbacks``, ``hydra.launcher`` and ``hydra.sweeper``, gives its logging sections to
:mod:`logging.config`, which can call any function, and makes the folders. All of this happens before the command's own
function is called, and a stranger's overlay can set it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from lightning_nas.cli.config.bounds import TooMuch, bounded, check_file
from lightning_nas.cli.config.log_sections import check_log_section
from lightning_nas.cli.config.models import check_model
from lightning_nas.cli.config.moved import modernise
from lightning_nas.cli.config.overriding import apply_overrides
from lightning_nas.cli.config.plain import join, trusted_modules, walk
from lightning_nas.cli.config.targets import check_target, full_name, is_a, resolve
from lightning_nas.cli.config.written import Asked, check_command, check_written
from lightning_nas.cli.presets import conf_dir
from lightning_nas.errors import ConfigError, NasError, shown
from lightning_nas.kinds import is_entry
from lightning_nas.spaces.builders import under

_PARTS = {
    "hydra.launcher": "hydra.plugins.launcher.Launcher",
    "hydra.sweeper": "hydra.plugins.sweeper.Sweeper",
    "hydra.callbacks": "hydra.experimental.callback.Callback",
}
HYDRAS_OWN = (
    "hydra._internal.core_plugins",
    "hydra.experimental.callbacks",
    "hydra_plugins",
    "lightning_nas.cli.sweep",
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE", re.IGNORECASE)
_LONGEST = 20_000
_TRUSTING = re.compile(r"\+{0,2}trusted_modules=")
_MAKERS = {"oc.create": oc.create, "oc.decode": oc.decode}


@contextmanager
def guarded() -> Iterator[None]:
    """A context in which every configuration that Hydra composes passes :func:`check_composition` first.

    Targets that have moved get their present names, and a value below a node that stands for another can be overridden
    (:mod:`lightning_nas.cli.config.overriding`). In the context the interpolations that make an entry of text
    (``oc.create``, ``oc.decode``) are unknown, and ``oc.env`` reads no secrets: the configuration is written into the
    folder of the run, and loggers may send it elsewhere.
    """
    load, search = ConfigLoaderImpl.load_configuration, ConfigLoaderImpl._process_config_searchpath
    read, apply = OmegaConf.load, ConfigLoaderImpl._apply_overrides_to_config

    def checked(
        self: ConfigLoaderImpl, config_name: str | None, overrides: list[str], *args: Any, **kwargs: Any
    ) -> DictConfig:
        if too_long := next((text for text in overrides if len(text) > _LONGEST), None):
            raise ConfigError(f"{shown(too_long)}: at most {_LONGEST:,} characters; write a file for --config-dir")
        try:
            with bounded():
                config: DictConfig = load(self, config_name, overrides, *args, **kwargs)
            modernise(config)
            check_composition(config, overrides)
        except RecursionError:
            raise ConfigError("the configuration is nested too deeply") from None
        except TooMuch as reason:
            raise ConfigError(f"the configuration cannot be composed: {str(reason).splitlines()[0]}") from None
        except (TypeError, AttributeError, LookupError, ValueError, AssertionError) as reason:
            if isinstance(reason, (NasError, OmegaConfBaseException)):  # they say what is wrong
                raise
            raise ConfigError(
                f"the configuration cannot be composed, Hydra ends with {type(reason).__name__} "
                f"({shown(str(reason), 160)}); the option of a group is a name or a list of names"
            ) from reason
        return config

    def bounded_file(file: Any) -> Any:
        if name := getattr(file, "name", file if isinstance(file, (str, Path)) else None):
            check_file(Path(name))
        return read(file)

    def applied(overrides: list[Any], config: DictConfig) -> None:
        apply_overrides(apply, overrides, config)

    def searched(self: ConfigLoaderImpl, config_name: str | None, parsed: list[Any], repo: Any) -> None:
        _check_search_path(repo.load_config(config_path=config_name) if config_name else None)
        search(self, config_name, parsed, repo)

    for name in _MAKERS:
        OmegaConf.clear_resolver(name)
    OmegaConf.register_new_resolver("oc.env", _environment, replace=True)
    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]
    ConfigLoaderImpl._apply_overrides_to_config = staticmethod(applied)  # type: ignore[method-assign, assignment]
    OmegaConf.load = bounded_file  # type: ignore[method-assign, assignment]
    ConfigLoaderImpl._process_config_searchpath = searched  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
        ConfigLoaderImpl._apply_overrides_to_config = staticmethod(apply)  # type: ignore[method-assign]
        OmegaConf.load = read  # type: ignore[method-assign]
        ConfigLoaderImpl._process_config_searchpath = search  # type: ignore[method-assign]
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
        for name, resolver in _MAKERS.items():
            OmegaConf.register_new_resolver(name, resolver)  # type: ignore[arg-type]


def _environment(name: str, *default: Any) -> Any:
    """``oc.env`` for all variables but secrets."""
    if _SECRET.search(name) and name in os.environ:
        raise ConfigError(f"{shown(name)}: a configuration may not read a secret of the environment")
    return oc.env(name, *default)


def _check_search_path(primary: Any) -> None:
    """Refuse packages, which Hydra imports, in the search path of a configuration file."""
    path = OmegaConf.select(primary.config, "hydra.searchpath") if primary is not None else None
    for place in path or ():
        if not str(place).startswith("file://"):
            raise ConfigError(f"hydra.searchpath: got {shown(place)}; legal in a file: file://FOLDER")


def check_composition(config: DictConfig, overrides: Sequence[str]) -> None:
    """Check every target of a configuration, and the settings that Hydra acts on, before interpolations are resolved.

    The logging sections get their resolved values.

    Args:
        config: the composed configuration with its ``hydra`` node.
        overrides: the overrides on the command line. Only they may set ``trusted_modules``, since a file could trust
            the classes that it names, the ``command`` that measures latencies, and places outside the run's folder.

    Raises:
        ConfigError: one line naming the key.
    """
    content: Any = OmegaConf.to_container(config, resolve=False)
    trusted = trusted_modules(content)
    overrides = _typed(config, overrides)
    if trusted and not any(_TRUSTING.match(override) for override in overrides):
        names = ",".join(trusted)
        raise ConfigError(f"trusted_modules may only be set on the command line: trusted_modules=[{names}]")
    hydra = content["hydra"]
    for part in _PARTS:
        _literal(hydra[part.removeprefix("hydra.")], part)
    for name, callback in (hydra["callbacks"] or {}).items():
        _literal(callback, join("hydra.callbacks", name))
    for key, value in walk(content):
        if is_entry(value):
            _check_made(key, value, trusted)
    if hydra["job"]["env_set"]:
        raise ConfigError("hydra.job.env_set: a configuration may not set environment variables; set them in the shell")
    check_command(config, content, Asked(overrides))
    check_written(content, Asked(overrides, conf_dir()))
    for part in ("hydra_logging", "job_logging"):
        _literal(hydra[part], f"hydra.{part}")
        check_log_section(config, part)


def _typed(config: DictConfig, overrides: Sequence[str]) -> list[str]:
    """The overrides that a person typed: those of a sweep's job may come from the sweeper's parameters in a file.

    Raises:
        ConfigError: the parameters of the sweep are no mapping.
    """
    asked, swept = Asked(overrides), set[str]()
    for part in ("hydra.sweeper.params", "hydra.sweeper.search_space"):
        params = OmegaConf.select(config, part)
        if params is not None and not OmegaConf.is_dict(params):
            raise ConfigError(f"{part}: got {shown(params)}; legal: a mapping")
        swept |= {str(name).lstrip("+~") for name in params or () if f"{part}.{name}" not in asked}
    return [text for text in overrides if text.partition("=")[0].lstrip("+~") not in swept]


def _check_made(key: str, entry: dict[str, Any], trusted: Sequence[str]) -> None:
    """Check the target of an entry; of Hydra's own entries, which it makes itself, the class too."""
    where = join(key, "_target_")
    if not key.startswith("hydra."):
        check_target(entry["_target_"], where, trusted)
        check_model(key, entry)
        return
    if "_args_" in entry:
        raise ConfigError(f"{join(key, '_args_')}: arguments are given by name here")
    made = resolve(entry["_target_"], where, [*HYDRAS_OWN, *trusted])
    base = next((base for part, base in _PARTS.items() if key == part or key.rpartition(".")[0] == part), None)
    if under(full_name(made), trusted):
        return
    if not isinstance(made, type) or (base is not None and not is_a(made, [base])):
        raise ConfigError(f"{where}: {shown(entry['_target_'])} is refused; legal: a class that derives from {base}")


def _literal(value: Any, key: str) -> dict[Any, Any]:
    if not isinstance(value, dict | None):
        raise ConfigError(f"{key}: got {shown(value)}; legal: a mapping, no interpolation")
    return value or {}
