"""Leaving on SIGINT and SIGTERM: at once, or after the batch in hand where a loop can stop exactly."""

import signal
from types import FrameType
from typing import ClassVar

from lightning_nas.errors import Interrupted


class StopRequest:
    """What the process was asked to do; signals belong to a process, so there is one for all.

    While ``deferred`` is set (a training loop promises to look), the first signal is only remembered. Otherwise, and at
    a second signal, :class:`Interrupted` is raised on the spot with exit code 128 + signal.
    """

    signum: ClassVar[int] = 0
    deferred: ClassVar[bool] = False

    @classmethod
    def listen(cls) -> None:
        """Take over SIGINT and SIGTERM; forget what came before."""
        cls.signum, cls.deferred = 0, False
        cls.defer(deferred=False)

    @classmethod
    def defer(cls, *, deferred: bool) -> None:
        """Say whether a loop is looking, and make sure that the handlers are ours (Lightning sets its own)."""
        cls.deferred = deferred
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, cls._handle)

    @classmethod
    def _handle(cls, signum: int, frame: FrameType | None) -> None:
        if not cls.deferred or cls.signum:
            raise Interrupted(128 + signum)
        cls.signum = signum
