"""The end of a run after SIGINT or SIGTERM: at once, or after the current batch where a loop can stop exactly.

Under DDP the first process decides for all. The processes that it launched forward their signals to it, even while they
wait inside a collective operation, and end when it ends.
"""

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from threading import Thread, Timer
from types import FrameType
from typing import Any, ClassVar, NoReturn

from lightning_nas.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ONE_REQUEST = 1.0  # seconds within which several signals are one: a terminal sends Ctrl-C to all processes
_PATIENCE = 3.0  # seconds for a handler to run
_LEADER = "LIGHTNING_NAS_LEADER"  # process id of the one that launched the others, in their environment
_PR_SET_PDEATHSIG = 1


class StopRequest:
    """The stop that a signal has requested; a class, because signals belong to the process.

    While ``deferred`` is set (a training loop checks for a request), the first signal is only remembered. Otherwise,
    and at a second signal, :class:`Interrupted` is raised at once with exit code 128 + signal.

    Attributes:
        signum: the signal that was received, or 0.
        deferred: whether a loop checks for a request.
        others: processes that this one launched.
        follows: whether another process of the run launched this one.
        listener: number of the run that listens, or 0.
    """

    signum: ClassVar[int] = 0
    deferred: ClassVar[bool] = False
    others: ClassVar[list[subprocess.Popen[bytes]]] = []
    follows: ClassVar[bool] = False
    listener: ClassVar[int] = 0
    _observed: ClassVar[list[subprocess.Popen[bytes]]] = []
    _since: ClassVar[float] = 0.0
    _numbers: ClassVar[Iterator[int]] = itertools.count(1)
    _hook: ClassVar[Callable[[Any], object]] = sys.unraisablehook

    @classmethod
    def listen(cls) -> int:
        """Install handlers of SIGINT and SIGTERM, and forget earlier requests.

        Returns:
            The file descriptor to which the interpreter writes signals; to be closed when it has another.
        """
        cls.signum, cls.others, cls._observed = 0, [], []
        cls.listener = next(cls._numbers)
        cls.defer(deferred=False)
        leader = os.environ.get(_LEADER)
        launched_by_a_run = leader not in (None, str(os.getpid()))  # else by torchrun, srun, ...; or we listen again
        cls.follows = os.environ.get("LOCAL_RANK", "0") != "0" and launched_by_a_run
        if cls.follows:
            _end_with(int(leader or 0))
        else:
            os.environ[_LEADER] = str(os.getpid())
        if sys.unraisablehook != cls._swallowed:
            cls._hook, sys.unraisablehook = sys.unraisablehook, cls._swallowed
        writing = _watch(cls.listener)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        return writing

    @classmethod
    def defer(cls, *, deferred: bool) -> None:
        """Set whether a loop checks for a request, and install the handlers again (Lightning sets its own)."""
        cls.deferred = deferred
        for signum in _SIGNALS:
            signal.signal(signum, cls._handle)

    @classmethod
    def launched(cls, processes: list[subprocess.Popen[bytes]]) -> None:
        """Record the list of processes that Lightning launched and observes."""
        cls.others, cls._observed = list(processes), processes

    @classmethod
    def unobserved(cls) -> None:
        """Let the other processes end with any exit code; Lightning's observer would kill this process for it."""
        cls._observed.clear()  # in place: the observer has this very list

    @classmethod
    def end_others(cls) -> None:
        """Kill the processes that this one launched."""
        for process in cls.others:
            process.kill()

    @classmethod
    def leave(cls, signum: int, *, together: bool) -> NoReturn:
        """Raise :class:`Interrupted` for ``signum``.

        Args:
            signum: SIGINT or SIGTERM.
            together: whether the other processes leave by themselves; otherwise they are killed.
        """
        cls.unobserved()
        if not together:
            cls.end_others()
        raise Interrupted(128 + signum)

    @classmethod
    def _handle(cls, signum: int, frame: FrameType | None) -> None:
        now, first = time.monotonic(), not cls.signum
        if not first and now - cls._since < _ONE_REQUEST:
            return
        if first:
            cls.signum, cls._since = signum, now
        if not cls.follows and not (first and cls.deferred):
            cls.leave(cls.signum, together=False)

    @classmethod
    def _swallowed(cls, unraisable: Any) -> None:
        """Send the signal again if it came inside a destructor, where Python drops exceptions."""
        if not isinstance(unraisable.exc_value, Interrupted) or not cls.signum:
            cls._hook(unraisable)
            return
        again, cls.signum = cls.signum, 0
        Timer(0.05, os.kill, (os.getpid(), again)).start()  # later: this hook may not raise either


def _watch(listener: int) -> int:
    """Start a thread that acts on signals while the main thread is inside C code, where no handler runs.

    A process that follows forwards each signal at once. The first process ends after a while if no loop checks for a
    request; not if another listens by then, which began after the signal had ended the run.

    Returns:
        The file descriptor to which the interpreter writes the number of each signal; closed, it ends the thread.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        while number := os.read(reading, 1):  # nothing when it was closed
            if number[0] not in _SIGNALS:
                continue
            if StopRequest.follows:
                os.kill(int(os.environ[_LEADER]), number[0])
                continue
            time.sleep(_PATIENCE)
            if listener == StopRequest.listener and not StopRequest.signum and not StopRequest.deferred:
                StopRequest.end_others()
                os._exit(128 + number[0])
        os.close(reading)

    Thread(target=watch, daemon=True, name="signals").start()
    return writing


def _end_with(leader: int) -> None:
    """Have the kernel kill this process when ``leader`` ends (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != leader:
        raise Interrupted(128 + signal.SIGTERM)  # it ended before we began
