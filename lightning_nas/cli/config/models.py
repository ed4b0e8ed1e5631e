"""The entries of a configuration that build a network to be searched, and the operations in it.

Networks are named at ``search_space.model`` alone, layers of torch in the ``choices`` of ``search_space.rules`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, open_dict, read_write

from lightning_nas.cli.config.plain import join
from lightning_nas.errors import ConfigError, InputError, shown
from lightning_nas.kinds import is_entry
from lightning_nas.spaces.builders import LIBRARY, refuse_weights

MODEL = "search_space.model"
_CHOICE = re.compile(r"search_space\.rules\[\d+\]\.choices\[\d+\](\.\w+)?(\[\d+\])?")
SIZES = ("in", "out")
"""Words in the place of a number of channels."""


def is_choice(key: str) -> bool:
    """Whether a key is that of an operation in the choices of a rule.

    >>> is_choice("search_space.rules[0].choices[1]"), is_choice("search_space.rules[0].choices[1].wide[2]")
    (True, True)
    >>> is_choice("search_space.rules[0].choices[1].wide.device.x"), is_choice("task.rules[0].choices[1]")
    (False, False)
    """
    return _CHOICE.fullmatch(key) is not None


def complete_choices(entries: Mapping[str, DictConfig]) -> None:
    """Say of the operations in rules that the space builds them, which knows their place.

    Args:
        entries: with a ``_target_``, by key; changed in place.
    """
    for key, entry in entries.items():
        if is_choice(key) and "_partial_" not in entry:
            with read_write(entry), open_dict(entry):
                entry["_partial_"] = True


def check_model(key: str, entry: Mapping[str, Any]) -> None:
    """Refuse a network or an operation that Hydra would build itself, or a network that would download its weights.

    Args:
        key: of the entry; entries of other places are left alone.
        entry: with its ``_target_``.

    Raises:
        ConfigError: one line that names the key.
    """
    if key != MODEL and not is_choice(key):
        return
    if entry.get("_partial_") is not True:
        raise ConfigError(f"{join(key, '_partial_')}: got {shown(entry.get('_partial_'))}; legal: true")
    if str(entry["_target_"]).startswith((f"{LIBRARY}.", "torch.nn.")):
        for name, value in entry.items():
            if is_entry(value):
                raise ConfigError(f"{join(key, name)}: arguments of a network or a layer are plain values, no objects")
    if key == MODEL and str(entry["_target_"]).startswith(f"{LIBRARY}."):
        try:
            refuse_weights(entry)
        except InputError as reason:
            raise ConfigError(f"search_space.{reason}") from None
