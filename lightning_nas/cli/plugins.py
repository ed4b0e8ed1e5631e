"""The parts that other installed packages add, found by their entry points. Imports none of them.

=============================  =====================  ===========================================
entry point group              group of configuration  what an entry point names
=============================  =====================  ===========================================
``lightning_nas.strategies``   ``strategy``           a strategy class
``lightning_nas.spaces``       ``search_space``       a search space class
``lightning_nas.tasks``        ``task``               a task class
``lightning_nas.truths``       ``rank_check.truth``   the truth that a rank check compares with
``lightning_nas.engines``      ``engine``             an engine that trains children
``lightning_nas.conf``         (any)                  a package that is a folder of Hydra groups
=============================  =====================  ===========================================

With ``mine = other.search:Mine`` in ``lightning_nas.strategies``, ``strategy=mine`` composes. Its YAML is
``strategy/mine.yaml`` of a folder in ``lightning_nas.conf`` if there is one, else the class with its own defaults. Who
installed the package trusts it, so exactly these classes may be targets; other classes need ``trusted_modules``.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUPS = {
    "lightning_nas.strategies": "strategy",
    "lightning_nas.spaces": "search_space",
    "lightning_nas.tasks": "task",
    "lightning_nas.truths": "rank_check.truth",
    "lightning_nas.engines": "engine",
}
CONF = "lightning_nas.conf"
_PARTIAL = ("strategy", "engine")  # the run adds the arguments that are objects
_SIZES = {
    "image_size": "${dataset.image_size}",
    "in_channels": "${dataset.channels}",
    "num_classes": "${dataset.num_classes}",
}


@cache
def parts() -> dict[str, dict[str, EntryPoint]]:
    """The entry points of each configuration group, by name."""
    return {group: {point.name: point for point in entry_points(group=name)} for name, group in GROUPS.items()}


def registered() -> frozenset[str]:
    """The dotted names of the classes that entry points name: legal as ``_target_`` besides the library's own."""
    return frozenset(target(point) for named in parts().values() for point in named.values())


def target(point: EntryPoint) -> str:
    """The class of an entry point as ``_target_`` writes it.

    >>> target(EntryPoint("mine", "other.search:Mine", "lightning_nas.strategies"))
    'other.search.Mine'
    """
    return f"{point.module}.{point.attr}".rstrip(".")


def node(group: str, point: EntryPoint) -> dict[str, Any]:
    """The configuration of a part that comes without a YAML: a search space takes its sizes from the data set."""
    made: dict[str, Any] = {"_target_": target(point)}
    if group in _PARTIAL:
        made["_partial_"] = True
    return made | (_SIZES if group == "search_space" else {})


@cache
def conf_packages() -> dict[str, str]:
    """The packages that are folders of Hydra groups, by the name of their entry point."""
    return {point.name: point.value for point in sorted(entry_points(group=CONF), key=lambda point: point.name)}
