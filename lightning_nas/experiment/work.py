"""The state of the process and of the folder while a run works. Imports torch late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_nas.experiment.folder import locked
from lightning_nas.experiment.loggers import closed
from lightning_nas.experiment.process import process

_WORKING: set[Path] = set()


@contextmanager
def at_work(folder: Path, seed: int, threads: int | None, *, leaves: bool = False) -> Iterator[None]:
    """What a run changes in its process, and the lock of its folder; entered again inside, it does nothing.

    Args:
        folder: of the run.
        seed: of the global generators while it lasts.
        threads: of torch's intra-op pool; None leaves it to torch.
        leaves: whether the process ends after a signal.

    Raises:
        ConfigError: another process is at work in the folder.
    """
    here = folder.resolve()
    if here in _WORKING:
        yield
        return
    with process(threads, leaves=leaves):
        from lightning_nas.training.seeding import seeded

        with seeded(seed, "run"), locked(folder), closed():
            _WORKING.add(here)
            try:
                yield
            finally:
                _WORKING.discard(here)
