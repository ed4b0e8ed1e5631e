"""Errors of this library, each with the exit code of the command line.

Exit codes: ``0`` success, ``1`` a bug of this library, ``2`` bad input or configuration, ``3`` a numerical failure of
the search, ``4`` the environment (disk, permissions), ``130`` / ``143`` stopped by SIGINT / SIGTERM.
"""

from pathlib import Path
from typing import Any, ClassVar


class NasError(Exception):
    """Base class of all errors that this library raises on purpose.

    Attributes:
        exit_code: of the command line, see :mod:`lightning_nas.errors`.

    Example:
        >>> raise ConfigError("trainer.max_epochs: got 0; legal: int > 0")
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: trainer.max_epochs: got 0; legal: int > 0
    """

    exit_code: ClassVar[int] = 1


class InputError(NasError):
    """Unusable input; the message names the value received, the legal values, and where to look."""

    exit_code = 2


class ConfigError(InputError):
    """An unknown key, a wrong type or a value out of range, in a configuration or a constructor."""


class InvalidArchitecture(InputError):
    """An architecture that is not part of its search space."""


class LatencyTableError(InputError):
    """A latency table that cannot be read or belongs to another search space."""


class DataError(InputError):
    """A data set that cannot be read or used."""


class NoStepError(InputError):
    """A search without an answer, because it took no step of some kind."""


class CheckpointError(InputError):
    """A checkpoint that cannot be used: damaged, of another program, or made under other conditions."""


class NumericalError(NasError):
    """NaN or infinity in a computation; the message names the step and the tensor."""

    exit_code = 3


class EnvironmentFailure(NasError):
    """A failure of the machine, such as a full disk or a folder that is not writable."""

    exit_code = 4


class Interrupted(SystemExit):
    """The end of a run after SIGINT (exit code 130) or SIGTERM (143)."""


def shown(value: Any, limit: int = 80) -> str:
    r"""Format a value as printable ASCII on one line of at most ``limit`` characters, for an error message.

    A :class:`~pathlib.Path` is never cut and keeps its letters of any alphabet, so that the reader can look it up.

    >>> shown("a\nb")
    "'a\\nb'"
    >>> shown("x" * 100, limit=10)
    "'xxxxxx..."
    >>> len(shown(Path("x" * 100), limit=10))
    102
    >>> shown("Jürg"), shown(Path("Jürg"))
    ("'J\\xfcrg'", "'Jürg'")
    """
    if isinstance(value, Path):
        return repr(str(value))
    text = ascii(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
