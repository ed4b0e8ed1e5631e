"""What is asked of a child and what comes back: plain JSON, whatever carries it to whichever machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lightning_nas.architecture import Architecture

Status = Literal["finished", "failed", "lost"]


@dataclass(frozen=True)
class Inherited:
    """Weights a child begins with: those of another, transformed.

    Attributes:
        architecture: of the other.
        weights: the file of its state.
    """

    architecture: Architecture
    weights: str


@dataclass(frozen=True)
class Request:
    """One attempt at one trial.

    Attributes:
        trial: its number in the search, from 0.
        attempt: from 1; a lost one is made again.
        architecture: to be trained.
        seed: of everything random; the result is a function of it and of what stands above and below.
        inherits: what the weights come from; None for fresh ones.
        keep: file the trained weights are written to; None for nowhere.
        bars: a reward for each epoch, and a child whose best is below that of its epoch ends there.

    Example:
        >>> request = Request(0, 1, Architecture("toy", (("layer_1", "conv"),)), seed=7)
        >>> Request.from_dict(request.to_dict()) == request
        True
    """

    trial: int
    attempt: int
    architecture: Architecture
    seed: int
    inherits: Inherited | None = None
    keep: str | None = None
    bars: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        inherits = self.inherits and {
            "architecture": self.inherits.architecture.to_dict(),
            "weights": self.inherits.weights,
        }
        plain = {"architecture": self.architecture.to_dict(), "inherits": inherits, "bars": list(self.bars)}
        return {"trial": self.trial, "attempt": self.attempt, "seed": self.seed, "keep": self.keep, **plain}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Request:
        """The inverse of :meth:`to_dict`."""
        made = {"architecture": Architecture.from_dict(content["architecture"]), "bars": tuple(content["bars"])}
        inherits = content["inherits"]
        if inherits is not None:
            inherits = Inherited(Architecture.from_dict(inherits["architecture"]), inherits["weights"])
        return cls(**content | made | {"inherits": inherits})


@dataclass(frozen=True)
class Response:
    """What became of an attempt.

    Attributes:
        trial: of the request.
        attempt: of the request.
        status: "finished"; "failed" if another attempt would end the same way (NaN, out of memory, not buildable);
            "lost" if the worker was.
        curve: the task's figure on the validation part after each epoch; empty unless finished.
        seconds: the training took, or would have taken.
        reason: why it failed or was lost, one line.
    """

    trial: int
    attempt: int
    status: Status
    curve: tuple[float, ...] = ()
    seconds: float = 0.0
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        ended = {"status": self.status, "curve": list(self.curve), "seconds": self.seconds, "reason": self.reason}
        return {"trial": self.trial, "attempt": self.attempt, **ended}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Response:
        """The inverse of :meth:`to_dict`."""
        return cls(**content | {"curve": tuple(content["curve"])})
