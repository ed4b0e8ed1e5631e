"""The job server, from inside: set up the job once, then fork one process per child.

A forked child shares the data with the server until it writes to them, and cannot change anything for the next child.
The same rule as for the workers of a torch DataLoader holds: a data set must not read through a file handle that it
opened in ``setup``, because forked processes share its position.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from threading import Lock, Thread
from typing import Any

from lightning_nas.trials.engines.base import Worker
from lightning_nas.trials.requests import Request, Response

_CONTEXT = multiprocessing.get_context("fork")
_F_SETSIG = 10  # of Linux


def serve(channel: Connection, lifeline: Connection, job: bytes, told: str) -> None:
    """Fork children as the search asks, and tell it when they start and end, until it closes the channel.

    Args:
        channel: brings requests, each followed by the handles of the child's two pipes; takes starts and exit codes.
        lifeline: is closed when the search ends.
        job: pickled.
        told: JSON with threads, memory_gb, beat and folder.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the search decides
    _kill_when_closed(lifeline)
    server = _Server(channel, lifeline, job, **json.loads(told))
    while True:
        server.beat()
        for ready in wait([channel, *server.children], server.every):
            if ready is not channel:
                server.report(ready)
                continue
            try:
                server.obey(json.loads(channel.recv_bytes()))
            except (EOFError, OSError):
                return


class _Server:
    """State of the server.

    Attributes:
        children: number and process of each child that runs, by its sentinel.
        every: seconds between two signs of life.
    """

    def __init__(
        self,
        channel: Connection,
        lifeline: Connection,
        job: bytes,
        threads: int,
        memory_gb: float | None,
        beat: float,
        folder: str,
    ) -> None:
        self.channel, self.lifeline, self.job, self.threads, self.every = channel, lifeline, job, threads, beat
        self.children: dict[Any, tuple[int, Any]] = {}
        self.worker: Worker | None = None
        with contextlib.suppress(OSError):  # for relative paths; another machine may lack the folder
            os.chdir(folder)
        # the server must not initialise CUDA, or no child could use it
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
        if memory_gb is not None:
            most = int(memory_gb * 2**30)
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        warnings.simplefilter("ignore")
        for name in ("pytorch_lightning", "lightning_fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)

    def obey(self, message: dict[str, Any]) -> None:
        """Start a child or kill it."""
        number, start = message["number"], message["start"]
        if start is None:
            for known, process in self.children.values():
                if known == number:
                    process.kill()
            return
        answering = Connection(recv_handle(self.channel), readable=False)
        lifeline = Connection(recv_handle(self.channel), writable=False)
        with answering, lifeline:
            asked = Request.from_dict(start["request"])
            try:
                if self.worker is None:
                    self.worker = self._set_up()
                process = _CONTEXT.Process(target=self._train, args=(asked, start["devices"], answering, lifeline))
                process.start()
            except Exception as error:  # noqa: BLE001 - not the child's: the data cannot be read here, a package is missing
                _answer(answering, Response(asked.trial, asked.attempt, "lost", reason=_in_one_line(error)))
                self._tell(number, 0)
            else:
                self.children[process.sentinel] = number, process
                self._tell(number, None)

    def report(self, sentinel: Any) -> None:
        """Tell the search the exit code of a child that has ended."""
        number, process = self.children.pop(sentinel)
        process.join()
        self._tell(number, process.exitcode)
        process.close()

    def beat(self) -> None:
        """Give a sign of life."""
        self._tell(None, None)

    def _tell(self, number: int | None, code: int | None) -> None:
        """Send the exit code of a child; None when it has been started."""
        with contextlib.suppress(OSError):  # the search has ended, which the loop will see
            self.channel.send_bytes(json.dumps([number, code]).encode())

    def _set_up(self) -> Worker:
        """Make the worker in a thread of its own, whose OpenMP threads end with it: no fork inherits a pool of them."""

        def make() -> Worker:
            import torch

            torch.set_num_threads(self.threads)
            worker: Worker = pickle.loads(self.job).worker()  # noqa: S301 - the search wrote it
            return worker

        with ThreadPoolExecutor(1) as thread:
            made = thread.submit(make)
            while not wait_for([made], self.every).done:
                self.beat()
            worker = made.result()
        gc.collect()
        gc.freeze()  # children share these objects for good
        return worker

    def _train(self, request: Request, devices: str, answering: Connection, lifeline: Connection) -> None:
        """Train one child and answer, in the forked process."""
        self.channel.close()
        self.lifeline.close()
        _kill_when_closed(lifeline)
        lock = Lock()
        Thread(target=_beat_and_die, args=(lifeline, answering, lock, self.every), daemon=True).start()
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
        try:
            import torch

            torch.set_num_threads(self.threads)
            assert self.worker is not None
            response = self.worker(request)
        except Exception as error:  # noqa: BLE001 - a worker answers for its child; this is something else
            response = Response(request.trial, request.attempt, "lost", reason=_in_one_line(error))
        with lock:
            _answer(answering, response)


def _answer(answering: Connection, response: Response) -> None:
    with contextlib.suppress(BrokenPipeError):  # the search has given it up
        answering.send_bytes(json.dumps(response.to_dict()).encode())


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _kill_when_closed(lifeline: Connection) -> None:
    """Have the kernel end this process when the other end of a pipe, which nobody writes to, is closed."""
    if sys.platform == "linux":  # without a turn for any thread, also if it is stopped
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _beat_and_die(lifeline: Connection, answering: Connection, lock: Lock, every: float) -> None:
    """Give signs of life, which are empty messages, until the search or this process ends."""
    while not lifeline.poll(every):
        with lock, contextlib.suppress(OSError):
            answering.send_bytes(b"")
    os.kill(os.getpid(), signal.SIGKILL)
