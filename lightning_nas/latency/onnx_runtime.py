"""ONNX Runtime on this machine's processor, and the ONNX files that it and other devices are given."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib.metadata import version

import torch
from torch import nn

from lightning_nas.errors import ConfigError, InputError, shown
from lightning_nas.latency.device import RUN_TIMES, Clock, Device, Passes, example
from lightning_nas.latency.table import Conditions
from lightning_nas.latency.torch_device import device_description
from lightning_nas.onnx_model import WRITERS, absent, onnx_model

RUNTIME = (*WRITERS, "onnxruntime")


class OnnxRuntime(Device):
    """Networks as ONNX Runtime runs them on the processor.

    Args:
        conditions: with the device "onnxruntime".
        clock: what time is read from.

    Raises:
        ConfigError: a package is not installed.
    """

    def __init__(self, conditions: Conditions, clock: Clock) -> None:
        check_installed("onnxruntime", RUNTIME)
        self.conditions, self.clock = conditions, clock
        self.seconds = RUN_TIMES * conditions.min_run_time
        self.shows_waiting = conditions.threads == 1

    def description(self) -> str:
        return f"ONNX Runtime, {device_description('cpu')}"[:200]

    def versions(self) -> dict[str, str]:
        return {"onnxruntime": version("onnxruntime")}

    def stopwatch(self, network: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype) -> Passes:
        import onnxruntime

        content, x = onnx_file(network, input_shape, dtype, self.conditions.batch_size)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.conditions.threads, 1
        options.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        fed = {"input": x.numpy()}
        return Passes(lambda: session.run(None, fed), self.conditions.min_run_time, self.clock)


def check_installed(device: str, packages: Sequence[str]) -> None:
    """Refuse a device whose packages are not there.

    Raises:
        ConfigError: says what to install.
    """
    if lacking := absent(packages):
        raise ConfigError(
            f"device={device} needs {', '.join(lacking)}, not installed here; pip install 'lightning_nas[export]'"
        )


def onnx_file(
    network: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype, batch_size: int
) -> tuple[bytes, torch.Tensor]:
    """The content of an ONNX file with the network in evaluation mode, and an input for it.

    Args:
        network: takes a tensor of shape (batch_size, *input_shape), the one shape that the file takes.
        input_shape: shape of one example.
        dtype: type of the example, int64 for words.
        batch_size: examples in the input.

    Raises:
        InputError: torch cannot write the network as ONNX.
    """
    x = example(input_shape, batch_size).to(dtype)
    network = copy.deepcopy(network).eval().cpu()
    try:
        with torch.no_grad():
            model = onnx_model(torch.export.export(network, (x,), strict=False))
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as reason:
        first = (str(reason).strip().splitlines() or ["no reason given"])[0]
        raise InputError(
            f"a {type(network).__name__} cannot be written as ONNX: {shown(first, 200)}; whole networks may be: "
            "by=networks"
        ) from None
    return model.SerializeToString(), x
