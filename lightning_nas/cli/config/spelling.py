"""Suggestions for misspelt words."""

from collections.abc import Iterable
from difflib import get_close_matches

from lightning_nas.errors import shown

_LISTED = 240


def hint(word: object, legal: Iterable[str]) -> str:
    """The end of an error about ``word``: the closest legal word, or all legal words.

    >>> hint("alhpa", ["alpha", "beta"])
    "did you mean 'alpha'?"
    >>> hint("gamma_ray", ["tau", "lr"])
    'legal: lr, tau'
    """
    words = sorted(legal)
    if near := closest(word, words):
        return f"did you mean {shown(near)}?"
    listed = ", ".join(words)
    return f"legal: {listed if len(listed) <= _LISTED else listed[:_LISTED] + '...'}" if words else "it takes none"


def closest(word: object, legal: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The shortest legal word that begins with ``word``, else the most similar; None below ``cutoff`` (0 to 1).

    >>> closest("darts_cifar10", ["p_darts_cifar10", "darts_cifar10_first"])
    'darts_cifar10_first'
    >>> closest("digit", ["digit_scenes", "digits"])
    'digits'
    """
    begun, words = str(word)[:_LISTED], sorted(legal)
    longer = [known for known in words if known.startswith(begun)] if len(begun) > 2 else []
    near = sorted(longer, key=len) or get_close_matches(begun, words, n=1, cutoff=cutoff)
    return near[0] if near else None
