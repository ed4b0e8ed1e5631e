"""Requests to children and their responses, as plain JSON that any engine can carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lightning_nas.architecture import Architecture

Status = Literal["finished", "failed", "lost"]


@dataclass(frozen=True)
class Inherited:
    """Trained weights of another network, from which a child starts after a transformation.

    Attributes:
        architecture: architecture of that network.
        weights: file of its state dict.
    """

    architecture: Architecture
    weights: str


@dataclass(frozen=True)
class Request:
    """One attempt at one trial.

    Attributes:
        trial: number of the trial in the search, from 0.
        attempt: number of the attempt, from 1; a lost attempt is repeated.
        architecture: the architecture to train.
        seed: seed of the training; the result depends only on the seed and the other attributes.
        inherits: origin of the initial weights; None for fresh weights.
        keep: file for the trained weights; None to discard them.
        bars: one reward per epoch; a child ends when its best reward so far is below the bar of the epoch.
        epochs: epochs after which the training pauses, counted from its beginning; None to train to the end.
        after: epochs of an earlier trial that this one goes on from; 0 for a new training.
        resumes: file of the state that trial was left in; None if there is none, then those epochs are trained again.

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
    epochs: int | None = None
    after: int = 0
    resumes: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON."""
        inherits = self.inherits and {
            "architecture": self.inherits.architecture.to_dict(),
            "weights": self.inherits.weights,
        }
        plain: dict[str, Any] = {
            "architecture": self.architecture.to_dict(),
            "inherits": inherits,
            "bars": list(self.bars),
        }
        plain |= {"epochs": self.epochs, "after": self.after, "resumes": self.resumes}
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
    """The result of an attempt.

    Attributes:
        trial: number of the trial, as requested.
        attempt: number of the attempt, as requested.
        status: "finished"; "failed" if another attempt would end in the same way (NaN, out of memory, not buildable);
            "lost" if the worker is gone.
        curve: figure of the task on the validation part after each epoch of this trial; empty unless finished.
        seconds: duration of the training, for a table that of the tabulated training.
        reason: reason of the failure or loss in one line.
    """

    trial: int
    attempt: int
    status: Status
    curve: tuple[float, ...] = ()
    seconds: float = 0.0
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON."""
        ended = {"status": self.status, "curve": list(self.curve), "seconds": self.seconds, "reason": self.reason}
        return {"trial": self.trial, "attempt": self.attempt, **ended}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Response:
        """The inverse of :meth:`to_dict`."""
        return cls(**content | {"curve": tuple(content["curve"])})
