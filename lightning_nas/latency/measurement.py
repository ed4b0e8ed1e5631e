"""The conditions of a latency table, which it keeps, and the settings of one measurement, which it does not."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator

from lightning_nas.errors import ConfigError
from lightning_nas.latency.command import USUAL_TIMEOUT, Command, check_command, described
from lightning_nas.latency.device import Clock, Device
from lightning_nas.latency.onnx_runtime import RUNTIME, OnnxRuntime
from lightning_nas.latency.table import Conditions, Seconds
from lightning_nas.latency.torch_device import TorchDevice
from lightning_nas.onnx_model import absent

By = Literal["operations", "networks"]
Networks = Annotated[int, Field(ge=0, le=100_000)]
NETWORKS = 8  # whole networks that tell factor and constant of a table
METHOD = 3  # how figures are made of rounds; cached tables of another number are not used
LEAST = 5  # networks of a regression: one for each part of its cross-validation


class Measurement(Conditions):
    """Conditions, and the settings of one measurement that no table and no file of one keeps.

    Attributes:
        command: of ``device="command"``, see :class:`~lightning_nas.latency.command.Command`. Tables name it, and never
            run it: whoever reads a table says the command once more.
        timeout: seconds that one run of the command may take; None for 60.
        by: "operations": each operation is measured by itself; "networks": random networks are measured whole, and the
            costs of the operations are fitted to them. None for "networks" with a command, else "operations".
        networks: networks that are measured whole; None for 8, which tell factor and constant, and with
            ``by="networks"`` for twice as many as there are operations, at least 20.

    Example:
        >>> asked = Measurement(device="command", command="./bench {model}")
        >>> asked.by_networks, asked.conditions == Conditions(device="command")
        (True, True)
    """

    command: str | None = None
    timeout: Seconds | None = None
    by: By | None = None
    networks: Networks | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.command is not None:
            try:
                check_command(self.command)
            except ConfigError as reason:
                raise ValueError(str(reason)) from None
        for name in ("command", "timeout"):
            if self.device != "command" and getattr(self, name) is not None:
                raise ValueError(f"{name} goes with device=command, got device={self.device}")
        if self.by_networks and self.networks is not None and self.networks < LEAST:
            raise ValueError(f"networks={self.networks}: by=networks needs at least {LEAST}")
        return self

    @property
    def conditions(self) -> Conditions:
        """The conditions alone."""
        return Conditions(**{name: getattr(self, name) for name in Conditions.model_fields})

    @property
    def by_networks(self) -> bool:
        """Whether whole networks alone are measured."""
        return self.device == "command" if self.by is None else self.by == "networks"

    @classmethod
    def of(cls, conditions: Conditions, **settings: Any) -> Measurement:
        """A measurement under these conditions."""
        if isinstance(conditions, Measurement):
            return conditions
        return cls(**conditions.model_dump(), **settings)


def open_device(conditions: Conditions, clock: Clock | None = None) -> Device:
    """The device of a measurement; the caller closes it.

    Raises:
        InputError: the machine has no such device, a package is not installed, or there is no command.
    """
    asked, clock = Measurement.of(conditions), clock or Clock()
    if asked.device == "onnxruntime":
        return OnnxRuntime(asked, clock)
    if asked.device != "command":
        return TorchDevice(asked, clock)
    if asked.command is None:
        raise ConfigError(
            "device=command needs the command on the command line or in Python: command='ssh phone ./bench {model}'"
        )
    return Command(asked.command, asked.timeout or USUAL_TIMEOUT, asked.batch_size, asked.min_run_time)


def reached(conditions: Conditions) -> str | None:
    """The description of the device if networks can be measured on it now; None if they cannot.

    >>> reached(Conditions(device="command")) is None, reached(Conditions()) is None
    (True, False)
    """
    asked = Measurement.of(conditions)
    if asked.device == "command":
        return None if asked.command is None else described(asked.command)
    if (asked.device == "cuda" and not torch.cuda.is_available()) or (
        asked.device == "onnxruntime" and absent(RUNTIME)
    ):
        return None
    return open_device(asked).description()
