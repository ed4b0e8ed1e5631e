"""Errors a user can meet, each with the exit code of the command line.

``0`` done, ``1`` a bug of this library, ``2`` bad input or configuration, ``3`` the search failed numerically,
``4`` the environment (disk, permissions), ``130`` / ``143`` stopped by SIGINT / SIGTERM.
"""

from pathlib import Path
from typing import Any, ClassVar


class NasError(Exception):
    """Base of every error this library raises on purpose."""

    exit_code: ClassVar[int] = 1


class InputError(NasError):
    """Something the user gave is not usable; the message names what came, what is legal and where to look."""

    exit_code = 2


class ConfigError(InputError):
    """The composed configuration has an unknown key, a wrong type or a value out of range."""


class InvalidArchitecture(InputError):
    """An architecture that its search space does not contain."""


class LatencyTableError(InputError):
    """A latency table that cannot be read or does not fit the search space."""


class DataError(InputError):
    """A data set that cannot be read or used."""


class CheckpointError(InputError):
    """A checkpoint that cannot be used: damaged, foreign, or made under other conditions."""


class NumericalError(NasError):
    """NaN or infinity where a number was needed; names the step and the tensor."""

    exit_code = 3


class EnvironmentFailure(NasError):
    """The machine refused: disk full, folder not writable."""

    exit_code = 4


class Interrupted(SystemExit):
    """Raised to leave a run after SIGINT (exit code 130) or SIGTERM (143)."""


def shown(value: Any, limit: int = 80) -> str:
    r"""``value`` as printable ASCII on one line, cut to ``limit`` characters: safe to put into an error message.

    A :class:`~pathlib.Path` is given whole: it is there to be looked up.

    >>> shown("a\nb")
    "'a\\nb'"
    >>> shown("x" * 100, limit=10)
    "'xxxxxx..."
    >>> len(shown(Path("x" * 100), limit=10))
    102
    """
    if isinstance(value, Path):
        return ascii(str(value))
    text = ascii(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
