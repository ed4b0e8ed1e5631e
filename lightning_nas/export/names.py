"""The formats of an exported network by name, their files, and what they need. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from lightning_nas.errors import ConfigError, shown
from lightning_nas.onnx_model import WRITERS, absent

Format = Literal["torch", "onnx", "py", "safetensors", "executorch"]
FORMATS: tuple[Format, ...] = get_args(Format)
USUAL: tuple[Format, ...] = ("torch", "onnx", "py", "safetensors")
FILES = {
    "torch": ("network.pt2",),
    "onnx": ("network.onnx",),
    "py": ("network.py", "network.weights.pt"),
    "safetensors": ("model.safetensors", "config.json", "README.md"),
    "executorch": ("network.pte",),
}
_NEEDS = {
    "onnx": (*WRITERS, "onnxruntime"),
    "safetensors": ("safetensors",),
    "executorch": ("executorch",),
}


def check_formats(formats: Sequence[str]) -> None:
    """Refuse formats that there are not, or whose packages are not installed.

    Raises:
        ConfigError: names what is legal, or what to install.
    """
    if not formats:
        raise ConfigError(f"formats: got none; legal: one or more of {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"formats: got {shown(name)}; legal: {', '.join(FORMATS)}")
        if problem := missing(name):
            raise ConfigError(f"formats: {problem}")


def missing(name: str) -> str | None:
    """What to install for a format; None if all is there.

    >>> missing("py")
    """
    lacking = absent(_NEEDS.get(name, ()))
    if not lacking:
        return None
    wanted = name if name == "executorch" else "'lightning_nas[export]'"
    return f"{name} needs {', '.join(lacking)}, not installed here; pip install {wanted}"
