"""A network as an ONNX model, made by torch from a program of torch.export."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram

WRITERS = ("onnx", "onnxscript")


def onnx_model(program: ExportedProgram) -> Any:
    """The ONNX ``ModelProto`` of a program with one input, "input", and one output, "logits"."""
    import torch

    with without_remarks():
        made = torch.onnx.export(program, input_names=["input"], output_names=["logits"], dynamo=True, verbose=False)
    assert made is not None
    return made.model_proto


def absent(packages: Sequence[str]) -> list[str]:
    """Those of the packages that are not installed.

    >>> absent(["torch", "no_such_package"])
    ['no_such_package']
    """
    return [package for package in packages if importlib.util.find_spec(package) is None]


@contextmanager
def without_remarks() -> Iterator[None]:
    """Without the exporters' own remarks on torch and on operators of other packages."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
