"""The logits in what a network returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def logits_of(output: Any) -> Any:
    """The entry ``logits`` of a mapping, such as the outputs of Hugging Face's models; anything else as it is.

    >>> logits_of({"logits": 1, "cache": None}), logits_of(2)
    (1, 2)
    """
    return output["logits"] if isinstance(output, Mapping) and "logits" in output else output
