"""The check of Hydra's logging sections, which :mod:`logging.config` acts on before the command's function is called.

``logging.config`` calls what ``()`` and ``class`` name, imports what ``ext://`` names, follows ``cfg://``, and sets
attributes from the key ``.``. So a section may have the handlers and keys below and no others, its interpolations are
resolved before the check and stay so, and a log file lies in the folder of the run.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, StringConstraints, ValidationError

from lightning_nas.cli.config.bounds import bounded
from lightning_nas.cli.config.plain import walk
from lightning_nas.errors import ConfigError, shown

_RUN_FOLDER = "${hydra.runtime.output_dir}"
_STANDS_FOR_IT = "/the folder of the run"
_FILE = re.compile(rf"{_STANDS_FOR_IT}/[\w,=+-][\w.,=+-]*\.log", re.ASCII)

_Level = Literal["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET"] | Annotated[int, Field(ge=0, le=100)]
_Stream = Literal["ext://sys.stdout", "ext://sys.stderr"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=False)


class _Formatter(_Part):
    made_by: Literal["colorlog.ColoredFormatter"] | None = Field(None, alias="()")
    kind: Literal["colorlog.ColoredFormatter", "logging.Formatter"] = Field("logging.Formatter", alias="class")
    format: str | None = None
    datefmt: str | None = None
    style: Literal["%"] = "%"
    validate_format: bool = Field(True, alias="validate")
    log_colors: dict[str, Annotated[str, StringConstraints(pattern=r"^[a-z_,]*$")]] = {}
    reset: bool = True


class _Handler(_Part):
    kind: Literal[
        "logging.FileHandler",
        "logging.NullHandler",
        "logging.StreamHandler",
        "logging.handlers.RotatingFileHandler",
        "rich.logging.RichHandler",
    ] = Field(alias="class")
    level: _Level = "NOTSET"
    formatter: str | None = None
    stream: _Stream = "ext://sys.stderr"
    filename: str | None = None
    mode: Literal["a", "w"] = "a"
    encoding: Literal["utf-8"] | None = None
    delay: bool = False
    maxBytes: NonNegativeInt = 0  # noqa: N815 - of logging.handlers
    backupCount: Annotated[int, Field(ge=0, le=1000)] = 0  # noqa: N815
    show_time: bool = True
    show_level: bool = True
    show_path: bool = True
    rich_tracebacks: bool = False


class _Logger(_Part):
    level: _Level = "NOTSET"
    handlers: list[str] = []
    propagate: bool = True


class _Section(_Part):
    version: Literal[1] = 1
    formatters: dict[str, _Formatter] = {}
    handlers: dict[str, _Handler] = {}
    loggers: dict[str, _Logger] = {}
    root: _Logger | None = None
    disable_existing_loggers: bool = True


def check_log_section(config: DictConfig, name: str) -> None:
    """Check ``hydra.<name>``, and write its resolved values over its interpolations.

    Args:
        config: what Hydra composed, with its ``hydra`` node.
        name: ``hydra_logging`` or ``job_logging``.

    Raises:
        ConfigError: one line with the first key that is not legal.
    """
    key = f"hydra.{name}"
    content = _resolved(config, name)
    for where, value in walk(content, key):
        if isinstance(value, str) and "://" in value and not where.endswith(".stream"):
            raise ConfigError(f"{where}: got {shown(value)}, which logging would import or follow")
        if (
            where.endswith(".filename")
            and value is not None
            and not (isinstance(value, str) and _FILE.fullmatch(value))
        ):
            came = shown(str(value).replace(_STANDS_FOR_IT, _RUN_FOLDER))
            raise ConfigError(f"{where}: got {came}; legal: {_RUN_FOLDER}/NAME.log")
    try:
        _Section.model_validate(content)
    except ValidationError as reason:
        raise ConfigError(_line(key, reason)) from None
    for handler in content.get("handlers", {}).values():
        if handler.get("filename"):
            handler["filename"] = handler["filename"].replace(_STANDS_FOR_IT, _RUN_FOLDER)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra[name] = content


def _resolved(config: DictConfig, name: str) -> Any:
    """The section as plain values, the folder of the run, which is not known yet, under another name."""
    key, runtime = f"hydra.{name}", config.hydra.runtime
    before = OmegaConf.to_container(runtime, resolve=False)
    try:
        with read_write(config.hydra), open_dict(config.hydra), bounded():
            runtime.output_dir = _STANDS_FOR_IT
            content = OmegaConf.to_container(config.hydra[name], resolve=True)
    except (OmegaConfBaseException, ValueError, RecursionError) as reason:
        # the run's own number, folder or environment is not known while a sweep is composed
        raise ConfigError(f"{key}: cannot be resolved: {shown(str(reason).splitlines()[0], 200)}") from None
    finally:
        with read_write(config.hydra), open_dict(config.hydra):
            runtime.output_dir = before["output_dir"]  # type: ignore[call-overload, index]
    if any(isinstance(value, str) and "${" in value for _, value in walk(content)):
        raise ConfigError(f"{key}: an interpolation is left after resolving")
    return content


def _line(key: str, reason: ValidationError) -> str:
    first = reason.errors(include_url=False)[0]
    place = shown(".".join(map(str, first["loc"])), 120)[1:-1]
    where, came = f"{key}.{place}" if place else key, shown(first["input"])
    if first["type"] == "extra_forbidden":
        return f"{where}: there is no such key here; handlers of a configuration take no factories and no attributes"
    return f"{where}: got {came}; {ascii(first['msg'][:1].lower() + first['msg'][1:200])[1:-1]}"
