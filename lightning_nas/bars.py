"""Progress of a loop: a bar in a terminal, a line of text in a notebook."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeVar

import rich
from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def tracked(
    items: Iterable[Item], title: str, total: int | None = None, *, hidden: bool = False, stderr: bool = False
) -> Iterator[Item]:
    """The items one after another, with a bar that is gone at the end.

    Args:
        items: of the loop.
        title: words on the left of the bar.
        total: number of items; None for that of a collection.
        hidden: whether there is no bar.
        stderr: whether a terminal shows the bar on stderr.

    Example:
        >>> list(tracked("ab", "letters", hidden=True))
        ['a', 'b']
    """
    if hidden or not rich.get_console().is_jupyter:
        console = Console(stderr=True) if stderr else rich.get_console()
        yield from track(items, title, total, console=console, transient=True, disable=hidden)
        return
    if total is None and isinstance(items, Collection):
        total = len(items)
    line = NotebookLine()
    for number, item in enumerate(items, 1):
        line.draw(f"{title} {number}" + (f"/{total}" if total is not None else ""))
        yield item
    line.draw("", now=True)


class NotebookLine:
    """Text in the output of a notebook's cell, replaced four times a second.

    Rich draws bars in a notebook only with the package ipywidgets, and warns without it.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._drawn = -math.inf

    def draw(self, text: str, *, now: bool = False) -> None:
        """Show a text, if the last one was shown long enough ago or this one may not be missed (``now``)."""
        if not now and time.monotonic() - self._drawn < 0.25:
            return
        import IPython.display

        display: Any = IPython.display

        self._drawn = time.monotonic()
        if self._handle is None:
            self._handle = display.display({"text/plain": text}, raw=True, display_id=True)
        else:
            self._handle.update({"text/plain": text}, raw=True)
