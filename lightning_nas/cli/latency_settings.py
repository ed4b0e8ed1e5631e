"""The settings of ``conf/latency.yaml`` besides the search space."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from lightning_nas.latency.measurement import Measurement
from lightning_nas.latency.schema import Strict


class Settings(Strict):
    """Settings of the command ``lightning-nas latency``.

    Attributes:
        measure: the device and the conditions of each measurement, and how it is done.
        out: the file of the table; None for ``latency_<space>_<digest>.json`` in the working directory.
        samples: random architectures that are measured as whole networks; 0 for none, else at least 2.
        seed: chooses these architectures.
    """

    measure: Measurement
    out: str | None
    samples: Annotated[int, Field(ge=0, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    @model_validator(mode="after")
    def _ranking_needs_two(self) -> Self:
        if self.samples == 1:
            raise ValueError("samples=1: legal are 0, or at least 2 architectures to rank")
        return self
