"""The places that a configuration may write to: the folder of the run, the cache, and what the user names.

What a person types on the command line is theirs, and so is ``local/default.yaml`` in the library's own folder of
groups. A file that another person wrote may choose names inside the run's folder and the cache, and no address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf

from lightning_nas.cli.config.plain import join, walk
from lightning_nas.errors import ConfigError, shown
from lightning_nas.kinds import is_entry
from lightning_nas.spaces.builders import under

# by the beginning of a target: arguments that are folders and files, names of files, and addresses of machines
_FOLDERS = {
    "pytorch_lightning.loggers": ("save_dir", "dir", "root_dir"),
    "pytorch_lightning.callbacks": ("dirpath",),
    "pytorch_lightning.Trainer": ("default_root_dir",),
    "lightning_nas.data.vision": ("root",),
    "lightning_nas.latency.sources.Measured": ("cache_dir", "path"),
    "lightning_nas.truth": ("cache_dir",),
    "lightning_nas.trials": ("cache_dir",),
    "hydra_plugins": ("submitit_folder", "temp_folder"),
}
_NAMES = {
    "pytorch_lightning.loggers": ("name", "version", "id", "sub_dir"),
    "pytorch_lightning.callbacks": ("filename",),
}
_THEIRS = {
    "pytorch_lightning.loggers": ("tracking_uri", "artifact_location", "entity", "api_key", "settings"),
    "pytorch_lightning.Trainer": ("model_registry",),
    "lightning_nas.trials.engines.ray": ("address",),
    "hydra_plugins": ("setup", "additional_parameters", "srun_args", "python", "pre_dispatch"),
}
_DISPATCH = re.compile(r"all|\d{1,9}(\*n_jobs)?", re.ASCII)  # Joblib evaluates other texts
_SOURCES = "lightning_nas.latency.sources"
_TOP = {
    "paths.output": "${hydra:runtime.output_dir}",
    "paths.cache": "${oc.env:LIGHTNING_NAS_CACHE,${oc.env:HOME,.}/.cache/lightning_nas}",
    "hydra.output_subdir": ".hydra",
    "out": None,
}

_WORD = r"[\w,=+%-]([\w.,=+% -]*[\w,=+% -])?"
_ROOTS = r"\$\{(paths\.(output|cache)|hydra:runtime\.output_dir|hydra\.(run\.dir|sweep\.dir|runtime\.output_dir))\}"
_INSIDE = re.compile(rf"{_ROOTS}(/\.?{_WORD})*", re.ASCII)
_RELATIVE = re.compile(rf"\.|\.?{_WORD}(/\.?{_WORD})*", re.ASCII)
# interpolations that come to a word without a slash
_PLAIN = re.compile(r"\$\{(now:[%\w:-]+|hydra\.job\.(num|id|name|override_dirname))\}", re.ASCII)
_OVERRIDE = re.compile(r"[+~]{0,2}(?P<key>[^=@]+)=(?P<value>.*)", re.DOTALL)


class Asked:
    """The keys that the user set: on the command line, or in ``local/default.yaml`` of the library's groups.

    Args:
        overrides: on the command line.
        conf: the folder of groups; None if the command line alone counts.
    """

    def __init__(self, overrides: Sequence[str], conf: str | Path | None = None) -> None:
        found = [match for override in overrides if (match := _OVERRIDE.fullmatch(override))]
        self._keys = {match["key"] for match in found}
        # a mapping sets all keys below it, where `group=option` leaves them to the file of the option
        self._whole = {match["key"] for match in found if match["value"].lstrip().startswith("{")}
        if conf is not None and (local := Path(conf) / "local" / "default.yaml").is_file():
            content = yaml.safe_load(local.read_text(encoding="utf-8"))
            self._keys |= {key for key, _ in walk(content)}

    def __contains__(self, key: str) -> bool:
        return key in self._keys or any(key.startswith(f"{whole}.") for whole in self._whole)


def check_command(config: DictConfig, content: dict[str, Any], typed: Asked) -> None:
    """Refuse a command that measures latencies unless it was typed: a file could run anything by it.

    Args:
        config: the composed configuration.
        content: the same with its interpolations.
        typed: the keys on the command line.

    Raises:
        ConfigError: one line that names the key.
    """
    found = [
        (join(key, "command"), entry["command"])
        for key, entry in walk(content)
        if is_entry(entry) and under(str(entry["_target_"]), [_SOURCES]) and "command" in entry
    ]
    for place in ("measure", "latency_table"):
        key, node = f"{place}.command", content.get(place)
        written = node.get("command") if isinstance(node, dict) else None
        found.append((key, written if written is not None else OmegaConf.select(config, key)))  # wherever `place` leads
    for key, value in found:
        if value is None:
            continue
        if key not in typed:
            raise ConfigError(
                f"{key}: got {shown(value)}; a command is run on this machine, so it may only be set on the command "
                f"line: '{key}=\"...\"'"
            )
        if "${" in str(value):
            raise ConfigError(f"{key}: got {shown(value)}; legal: plain text, no interpolation")


def check_written(content: dict[str, Any], asked: Asked) -> None:
    """Check the keys that say where a run writes and whom it talks to, as they are written, before resolving.

    Args:
        content: the composed configuration with its interpolations.
        asked: the keys that the user set.

    Raises:
        ConfigError: one line naming the key.
    """
    for key, legal in _TOP.items():
        place, _, name = key.rpartition(".")
        value = (content.get(place) or {} if place else content).get(name)
        if value not in (None, legal) and key not in asked:
            raise _refused(key, value)
    _check_hydra(content["hydra"], asked)
    for key, entry in walk(content):
        if is_entry(entry):
            target = str(entry["_target_"])
            _check_entry(key, entry, target, asked)


def _check_entry(key: str, entry: dict[str, Any], target: str, asked: Asked) -> None:
    for name, value in entry.items():
        where = join(key, name)
        if value in (None, "", [], {}) or isinstance(value, (bool, int)) or where in asked:
            continue
        inside = isinstance(value, str) and _INSIDE.fullmatch(_PLAIN.sub("x", value))
        plain = isinstance(value, str) and _RELATIVE.fullmatch(_PLAIN.sub("x", value))
        if name in _of(_FOLDERS, target) and not inside:
            raise _refused(where, value)
        if name in _of(_NAMES, target) and not (plain or inside):
            raise ConfigError(f"{where}: got {shown(value)}; a configuration may give a plain name, no other folder")
        if name in _of(_THEIRS, target) and not (name == "pre_dispatch" and _DISPATCH.fullmatch(str(value))):
            raise _refused(where, value)


def _check_hydra(hydra: dict[str, Any], asked: Asked) -> None:
    """Check Hydra's folders, which it makes and writes to before the command's own function is called."""
    job = hydra["job"]
    if not re.fullmatch(r"[\w-]+", str(job["name"]), re.ASCII) and "hydra.job.name" not in asked:
        raise ConfigError(f"hydra.job.name: got {shown(job['name'])}; legal: letters, digits, _ and -")
    for name, value in job["config"]["override_dirname"].items():
        key = f"hydra.job.config.override_dirname.{name}"
        if name in ("kv_sep", "item_sep") and not re.fullmatch(r"[\w,=+-]?", str(value)) and key not in asked:
            raise ConfigError(f"{key}: got {shown(value)}; legal: one of , = + - _")
    for key, value in (
        ("hydra.run.dir", hydra["run"]["dir"]),
        ("hydra.sweep.dir", hydra["sweep"]["dir"]),
        ("hydra.sweep.subdir", hydra["sweep"]["subdir"]),
    ):
        if key not in asked and not _RELATIVE.fullmatch(_PLAIN.sub("x", str(value))):
            raise ConfigError(
                f"{key}: got {shown(value)}; a configuration may give a folder below the working directory; "
                f"give others on the command line: {key}=..."
            )
    for key, value in walk(hydra["launcher"], "hydra.launcher"):
        text = _PLAIN.sub("x", re.sub(_ROOTS, "x", value)) if isinstance(value, str) else ""
        if ("${" in text or not text.isprintable()) and key not in asked:
            raise ConfigError(f"{key}: got {shown(value)}; legal: plain text")


def _of(table: dict[str, tuple[str, ...]], target: str) -> Iterable[str]:
    return [name for place, names in table.items() if under(target, [place]) for name in names]


def _refused(key: str, value: object) -> ConfigError:
    return ConfigError(
        f"{key}: got {shown(value)}; a configuration may name places in the folder of the run (${{paths.output}}) and "
        f"in the cache (${{paths.cache}}); give others on the command line: {key}=..."
    )
