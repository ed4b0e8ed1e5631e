"""The entry of a configuration that builds a network to be searched: the one place where networks may be named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_nas.cli.config.plain import join
from lightning_nas.errors import ConfigError, InputError, shown
from lightning_nas.kinds import is_entry
from lightning_nas.spaces.builders import LIBRARY, refuse_weights

MODEL = "search_space.model"


def check_model(key: str, entry: Mapping[str, Any]) -> None:
    """Refuse a network that Hydra would build itself, or that would download its weights.

    Args:
        key: of the entry; entries of other places are left alone.
        entry: with its ``_target_``.

    Raises:
        ConfigError: one line that names the key.
    """
    if key != MODEL:
        return
    if entry.get("_partial_") is not True:
        raise ConfigError(f"{join(key, '_partial_')}: got {shown(entry.get('_partial_'))}; legal: true")
    if str(entry["_target_"]).startswith(f"{LIBRARY}."):
        for name, value in entry.items():
            if is_entry(value):
                raise ConfigError(f"{join(key, name)}: arguments of a network are plain values, no objects")
        try:
            refuse_weights(entry)
        except InputError as reason:
            raise ConfigError(f"search_space.{reason}") from None
