"""A configuration from overrides, beside any Hydra application that is running, and Hydra's errors in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.version import VersionBase
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lightning_nas.cli import presets
from lightning_nas.cli.arguments import value
from lightning_nas.cli.config.check import check
from lightning_nas.cli.config.composing import guarded
from lightning_nas.cli.config.spelling import hint
from lightning_nas.cli.search_path import register
from lightning_nas.errors import ConfigError, NasError, shown

_UNKNOWN = re.compile(r"Could not override '([^']+)'")
_NAMED_IN = re.compile(r"In '([^']+)'")


def configured(overrides: Sequence[str]) -> DictConfig:
    """The configuration of a run under some overrides.

    Raises:
        ConfigError: one line on what is wrong with them.
    """
    register()
    try:
        with composing():
            return compose("config", [*overrides])
    except (HydraException, OmegaConfBaseException) as reason:
        raise ConfigError(one_line(explained(reason, "config", overrides))) from None


@contextmanager
def composing() -> Iterator[None]:
    """A context in which Hydra composes from ``conf/``, guarded; a person's own application goes on afterwards."""
    running, base = GlobalHydra.instance().hydra, VersionBase.instance().getbase()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(presets.conf_dir(), version_base="1.3"), guarded():
            yield
    finally:
        GlobalHydra.instance().hydra = running
        VersionBase.instance().version_base = base


def one_line(error: Exception) -> str:
    """The text of an error on one line, without Hydra's list of folders."""
    lines = str(error).partition("Config search path:")[0].splitlines()
    return " ".join(line.strip() for line in lines if line.strip())


def explained(error: Exception, config_name: str, arguments: Sequence[str]) -> Exception:
    """Hydra's error about an override with the legal values added: the same keys are composed again and checked."""
    if isinstance(error, OverrideParseException) and "=" not in error.override:
        homes = presets.homes(error.override)
        advice = f"did you mean {' or '.join(homes)}?" if homes else "legal: KEY=VALUE such as strategy=fbnet"
        return ConfigError(f"cannot read {shown(error.override)}; {advice}")
    if isinstance(error, OverrideParseException):
        return ConfigError(f"cannot read {shown(error.override)}: {error}")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return _no_preset(error.missing_cfg_file, error.options, str(error), config_name)
    unknown = _UNKNOWN.match(str(error))
    if not unknown or unknown[1].startswith("hydra"):
        return error
    key, groups = unknown[1], set(presets.groups())
    name, own = (value(arguments, flag) for flag in ("--config-name", "--config-dir"))
    searched = [f"hydra.searchpath=[file://{Path(own).resolve()}]"] if own else []
    single = {text.partition("=")[0]: text for text in arguments if "," not in text}  # not the lists of a sweep
    chosen = [text for name, text in single.items() if _counts(name, text, key)]
    try:
        added = next((text for text in arguments if text.partition("=")[0] == key and not _is_sweep(text)), f"{key}=")
        with composing():
            config = compose(name or config_name, [*searched, *chosen, f"+{added}", "paths.output=''"])
        if key == "proxy":
            return ConfigError(
                "proxy: nothing here takes a score; add strategy=proxy, or child=proxy to a search by trials"
            )
        if "." not in key:
            legal = groups | {str(known) for known in config} - {key}
            return ConfigError(f"{key}: there is no such group or key; {hint(key, legal)}")
        check(config)
    except (NasError, HydraException, OmegaConfBaseException) as better:
        about = key in str(better) or str(better).startswith(f"{key.partition('.')[0]}: ")
        return better if isinstance(better, ConfigError) and about else error
    return error


def _is_sweep(override: str) -> bool:
    """Whether an override has several values, one for each job; a list is one value.

    >>> _is_sweep("seed=1,2"), _is_sweep("stages=[search,retrain]")
    (True, False)
    """
    return bool(OverridesParser.create().parse_override(override).is_sweep_override())


def _counts(name: str, override: str, key: str) -> bool:
    """Whether an override matters for what is legal for ``key``; data of the user's own need a run to fill in sizes."""
    if name.lstrip("+") == "trusted_modules" or key.startswith(f"{name}."):
        return True
    return name in presets.groups() and override.partition("=")[2] in presets.names(name)


def _no_preset(missing: str, options: Sequence[str], said: str, config_name: str) -> ConfigError:
    """The error about a preset that does not exist, with the file that names it if that is an overlay."""
    group, _, name = missing.rpartition("/")
    named_in = _NAMED_IN.match(said)
    where = f"{named_in[1]}: " if named_in and named_in[1] != config_name else ""
    return ConfigError(f"{where}{group}: there is no preset {shown(name)}; {hint(name, options)}")
