"""The end of a Hydra multirun: the table over its runs. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from lightning_nas.report.record import read_object
from lightning_nas.report.sweep import as_text, sheet, write_sweep

Stamp = tuple[int, int, int]


class SweepSummary(Callback):
    """Prints the figures of every run of a sweep, and writes them as ``sweep.csv`` and ``sweep.html``.

    Runs that were in the folder before, and were not run again, are left out.
    """

    def __init__(self) -> None:
        self._before: dict[Path, Stamp] = {}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra's hook before the first job."""
        self._before = _results(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra's hook after the last job; does nothing if no job has a result."""
        folder = Path(config.hydra.sweep.dir)
        new = [file for file, stamp in _results(folder).items() if self._before.get(file) != stamp]
        found = {str(file.parent.relative_to(folder)): file for file in new}
        names = sorted(found, key=lambda name: (len(name), name))  # run 10 after run 9
        if names:
            runs = [(name, read_object(found[name])) for name in names]
            write_sweep(folder, runs)
            _print(sheet(runs), folder)


def _results(folder: Path) -> dict[Path, Stamp]:
    """The files of results below a folder, each with what tells one that was written anew."""
    return {file: _stamp(file) for file in folder.rglob("result.json")}


def _stamp(file: Path) -> Stamp:
    known = file.stat()
    return known.st_ino, known.st_mtime_ns, known.st_size


def _print(made: Any, folder: Path) -> None:
    """Print a table as wide as its longest word makes it, even where the terminal has to break the lines."""
    console, table = Console(markup=False, emoji=False), as_text(made)
    least = console.measure(table, options=console.options.update(max_width=10_000)).minimum
    console.width = max(console.width, least)
    console.print(table)
    console.print(f"written to {folder / 'sweep.csv'} and sweep.html", soft_wrap=True)
