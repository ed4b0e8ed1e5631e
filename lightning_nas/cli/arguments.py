"""The arguments of a command in the one order that Hydra's parser reads.

Hydra takes ``key=value`` from one place of a command line only: it refuses ``dataset=mine --config-dir DIR seed=1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lightning_nas.cli.config.spelling import hint
from lightning_nas.errors import ConfigError, shown

# Hydra's flags that take a value
_VALUED = ("--cfg", "--package", "--config-path", "--config-name", "--config-dir", "--experimental-rerun", "--info")
_SHORT = {"-c": "--cfg", "-p": "--package", "-cp": "--config-path", "-cn": "--config-name", "-cd": "--config-dir"}
_SHORT |= {"-i": "--info"}


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether a command is asked what it does, and nothing else.

    >>> asks_for_help(["--help"]), asks_for_help(["RUN", "-h"])
    (True, False)
    """
    return list(arguments) in (["--help"], ["-h"])


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides and the flags (with their values) of a command line, each in the order given.

    >>> split(["dataset=mine", "-m", "--config-dir", "my_conf", "seed=1,2"])
    (['dataset=mine', 'seed=1,2'], ['-m', '--config-dir', 'my_conf'])
    """
    overrides, flags = list[str](), list[str]()
    pending = ""
    for argument in arguments:
        is_value = pending and (pending != "--info" or "=" not in argument)  # --info may stand alone
        is_flag = argument.startswith("-")
        (flags if is_flag or is_value else overrides).append(argument)
        pending = _valued(argument) if is_flag else ""
    return overrides, flags


def trusted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without ``trusted_modules=[A,B]``, and the modules that it names.

    >>> trusted(["RUN", "trusted_modules=[mine, ours]", "formats=[py]"])
    (['RUN', 'formats=[py]'], ['mine', 'ours'])
    """
    others, modules = list[str](), list[str]()
    for argument in arguments:
        name, _, given = argument.partition("=")
        if name == "trusted_modules":
            modules += listed(name, given)
        else:
            others.append(argument)
    return others, modules


def listed(name: str, given: str) -> list[str]:
    """The names of a list as it is typed: in brackets, or a name alone; quotes and spaces around names are left out.

    Raises:
        ConfigError: a bracket or a name is missing.

    Example:
        >>> listed("formats", "[py, 'onnx']"), listed("formats", "py"), listed("formats", "[]")
        (['py', 'onnx'], ['py'], [])
        >>> listed("formats", "[py,onnx")
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: formats: got '[py,onnx'; legal: names in brackets, formats=[A,B]
    """
    text = given.strip()
    opened, closed = text.startswith("["), text.endswith("]")
    inside = text[1:-1] if opened and closed else text
    names = [part.strip().strip("'\"").strip() for part in inside.split(",")] if inside.strip() else []
    if opened != closed or not all(names) or any(mark in inside for mark in "[]"):
        raise ConfigError(f"{name}: got {shown(given)}; legal: names in brackets, {name}=[A,B]")
    return names


def arranged(arguments: Sequence[str]) -> list[str]:
    """The same arguments with all overrides first; a value that begins with ``~/`` is in the home folder."""
    overrides, flags = split(arguments)
    return [*map(_at_home, overrides), *flags]


def check_flags(arguments: Sequence[str]) -> None:
    """Refuse what Hydra's parser refuses, in one line.

    Raises:
        ConfigError: a flag that there is not, one without its value, or one with a value that is not legal.

    Example:
        >>> check_flags(["seed=1", "--cfg", "job"])
        >>> check_flags(["--multirn"])
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: '--multirn': there is no such flag; did you mean '--multirun'?
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        reason, _, unknown = message.partition("unrecognized arguments: ")
        if reason:
            raise ConfigError(reason.removeprefix("argument "))
        word = unknown.split()[0]
        raise ConfigError(f"{shown(word)}: there is no such flag; {hint(word, parser._option_string_actions)}")

    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(list(arguments))


def _at_home(override: str) -> str:
    """The override with its path in full: a shell expands ``~`` at the beginning of a word only."""
    name, _, path = override.partition("=")
    return f"{name}={Path(path).expanduser()}" if path.startswith("~/") and "," not in path else override


def value(arguments: Sequence[str], flag: str) -> str | None:
    """The value given to a flag, or None.

    >>> value(["-cd", "my_conf", "seed=1"], "--config-dir"), value(["--config-dir=here"], "--config-dir")
    ('my_conf', 'here')
    """
    _, flags = split(arguments)
    for i, argument in enumerate(flags):
        if _valued(argument) == flag and i + 1 < len(flags):
            return flags[i + 1]
        name, equals, given = argument.partition("=")
        if equals and _valued(name) == flag:
            return given
    return None


def _valued(argument: str) -> str:
    """The full name of a flag whose value is the next argument, also if it is abbreviated; else empty."""
    if argument in _SHORT:
        return _SHORT[argument]
    if argument in _VALUED:
        return argument
    meant = [flag for flag in _VALUED if flag.startswith(argument)] if argument.startswith("--") else []
    return meant[0] if len(meant) == 1 else ""
