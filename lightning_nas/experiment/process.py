"""The state of a process that a run changes and puts back, since one process may do many runs. Imports torch late."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_nas.errors import EnvironmentFailure
from lightning_nas.processes import check_processes
from lightning_nas.training.signals import StopRequest

_CHATTER = ("pytorch_lightning", "lightning_fabric", "lightning.")
_WARNINGS = (  # of Lightning, about what is meant to be so
    "does not have many workers",
    "ended before the epoch ended",
    "is smaller than the logging interval",
    "have no `val_dataloader`",
    "this fit will run with no optimizer",  # searches by trials that have no parameters
    "overridden `on_after_batch_transfer`",
    "LeafSpec",
    "You have overridden `on_after_batch_transfer`",
    "It is recommended to use `self.log",  # what all processes compute alike, or one alone
)
_GRACE = 5.0  # seconds in which processes that belong together end


@contextmanager
def process(threads: int | None, *, leaves: bool = False) -> Iterator[None]:
    """Signals, threads, environment, warnings and console as a run needs them, and as they were afterwards.

    Args:
        threads: of torch's intra-op pool; None leaves it to torch.
        leaves: whether the process ends after a signal; then its handlers stay until all is tidied up.

    Raises:
        EnvironmentFailure: another process of the run was lost.
    """
    check_processes(f"threads={threads}", threads or 1)
    environment = dict(os.environ)
    os.environ.setdefault("WANDB_SILENT", "true")
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # else Lightning chooses a number under DDP
    with signals(leaves=leaves), warnings.catch_warnings(), quiet():
        import torch

        before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        torch.set_num_threads(before if threads is None else threads)
        # nothing here reads memory before writing it
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        except RuntimeError:
            if not StopRequest.signum:
                _blame_the_others()
            raise
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(deterministic)
            os.environ.clear()
            os.environ.update(environment)


@contextmanager
def signals(*, leaves: bool = False) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks for a stop; afterwards the handlers are those of before. Imports no torch.

    Args:
        leaves: whether the process ends after a signal; then the handlers stay until all is tidied up.
    """
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    wakeup = signal.set_wakeup_fd(-1)
    outer, watched = StopRequest.listener, StopRequest.listen()
    try:
        yield
    except Exception:
        if StopRequest.signum:  # the signal came inside foreign code, which made an error of its own of it
            StopRequest.leave(StopRequest.signum, together=False)
        raise
    finally:
        if not (leaves and StopRequest.signum):
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(watched)
            StopRequest.listener = outer


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's advice, and all but the warnings of the other processes, in the log file alone."""
    first = os.environ.get("LOCAL_RANK", "0") == "0"

    def passes(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or (first and _is_ours(record))

    loggers = map(logging.getLogger, ("", "pytorch_lightning", "lightning_fabric"))
    handlers = [h for log in loggers for h in log.handlers if not isinstance(h, logging.FileHandler)]
    for handler in handlers:
        handler.addFilter(passes)
    for text in _WARNINGS:
        warnings.filterwarnings("ignore", message=f".*{text}", module="pytorch_lightning")
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(passes)


def _is_ours(record: logging.LogRecord) -> bool:
    return not record.name.startswith(_CHATTER)


def _blame_the_others() -> None:
    """After a broken collective operation: leave as the process that broke it, which has said why."""
    if StopRequest.follows:
        time.sleep(_GRACE)  # if the first process is leaving, this one ends with it and has nothing to say
    for rank, other in enumerate(StopRequest.others, start=1):
        try:
            code = other.wait(_GRACE)
        except subprocess.TimeoutExpired:
            continue
        if code in (2, 3, 4):
            raise SystemExit(code)
        raise EnvironmentFailure(f"process {rank} of the run was lost with exit code {code}; ckpt_path=last goes on")
