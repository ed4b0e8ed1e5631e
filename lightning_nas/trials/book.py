"""The book of trials: takes proposals, gives them to an engine, writes the ledger, and returns results one by one.

The next step of a search depends on its seed and on the order of the results. The ledger holds that order, so a search
that was killed resumes exactly: it makes the same proposals again, takes known results from the ledger instead of
training, and repeats lost attempts. With ``ordered`` results are returned in the order of proposals, which depends on
the seed alone and not on the engine.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_nas.architecture import Architecture
from lightning_nas.errors import CheckpointError, InputError, shown
from lightning_nas.training.seeding import mix
from lightning_nas.training.signals import StopRequest
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.ledger import Event, Ledger
from lightning_nas.trials.requests import Inherited, Request, Response

_PATIENCE = 0.2  # seconds between two checks for a signal


@dataclass(frozen=True)
class Proposal:
    """An architecture that a search wants to have trained.

    Attributes:
        architecture: the architecture.
        info: notes of the strategy as plain JSON, returned with the result and kept in the ledger.
        parent: number of the trial whose weights the network inherits; None for fresh weights.
        bars: rewards to be reached by epoch, see :class:`~lightning_nas.trials.requests.Request`.
    """

    architecture: Architecture
    info: dict[str, Any] = field(default_factory=dict)
    parent: int | None = None
    bars: tuple[float, ...] = ()


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    Attributes:
        number: index in the order of proposals, from 0.
        architecture: as proposed.
        info: as proposed.
        curve: figure of the task after each epoch; empty for a failed trial.
        seconds: duration of the training; 0 for a repeated architecture.
        reason: reason of the failure; None for a finished trial.
    """

    number: int
    architecture: Architecture
    info: dict[str, Any]
    curve: tuple[float, ...]
    seconds: float
    reason: str | None

    @property
    def failed(self) -> bool:
        """Whether the trial ended without a figure."""
        return self.reason is not None


class Trials:
    """Keep an engine busy and write the ledger.

    Args:
        engine: trains the children.
        ledger: the events so far; new events are appended.
        seed: seed of the children.
        in_flight: upper bound of open proposals, at least 1; with more than the engine's slots no slot waits for the
            search.
        ordered: whether results are returned in the order of proposals; otherwise in the order in which they end.
        attempts: number of attempts at a trial whose worker is lost; attempts that ended because the search itself was
            interrupted are not counted.
        reuse: whether a repeated architecture gets the result of the first and is not trained.
        canonical: maps equivalent architectures to one form.
        keep: returns the file of a trial's weights; None to keep no weights.

    Attributes:
        returned: the trials returned so far, in order.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        *,
        seed: int = 0,
        in_flight: int = 1,
        ordered: bool = True,
        attempts: int = 3,
        reuse: bool = True,
        canonical: Callable[[Architecture], Architecture] = lambda architecture: architecture,
        keep: Callable[[int], str] | None = None,
    ) -> None:
        self.engine, self.ledger, self.seed = engine, ledger, seed
        self.in_flight, self.ordered, self.attempts, self.reuse = in_flight, ordered, attempts, reuse
        self.canonical, self.keep = canonical, keep
        self.proposed = 0
        self.returned: list[Trial] = []
        self._open: dict[int, Proposal] = {}
        self._forms: dict[int, Architecture] = {}  # of open trials, canonical; if results are reused
        self._results: dict[int, Response] = {}  # of open trials, in the order in which they came
        self._waiting, self._running = deque[int](), dict[int, int]()  # trials; attempts of those that run
        self._known: dict[Architecture, Response] = {}
        self._twins: list[int] = []  # open trials of architectures that are open before them
        try:
            self._past = _Past(ledger.found)
        except (InputError, AttributeError, KeyError, TypeError, ValueError) as reason:
            raise CheckpointError(f"{ledger.path.name}: an event is incomplete: {shown(str(reason))}") from None

    # -- the search's side --------------------------------------------------------------------------------------

    @property
    def wants(self) -> bool:
        """Whether another proposal can be open now."""
        return len(self._open) < self.in_flight

    def propose(self, proposal: Proposal) -> None:
        """Open a proposal.

        Raises:
            CheckpointError: the ledger has this trial with another architecture.
        """
        number, architecture = self.proposed, proposal.architecture
        known = self._past.proposed.get(number)
        if known is None:
            event = {"trial": number, "architecture": architecture.to_dict(), "info": proposal.info}
            self.ledger.append("proposed", event | {"parent": proposal.parent, "bars": list(proposal.bars)})
        elif known.architecture != architecture:
            raise CheckpointError(
                f"trial {number} of {self.ledger.path.name} is {shown(str(known.architecture))}, this search proposes "
                f"{architecture}: it was written under other settings; start in another folder"
            )
        self._take(number, proposal)
        self.proposed += 1
        if number in self._past.ended:
            return
        self._enqueue(number)
        self._submit()

    def next(self) -> Trial | None:
        """Wait for the next trial that ends and return it; None if no proposal is open."""
        if not self._open:
            return None
        while (number := self._ready()) is None:
            self._wait()
        if not self.engine.instant:
            self.ledger.sync()
        self._note(self._results.pop(number))
        self._end_twins()
        return self.returned[-1]

    def gave_up(self, number: int) -> bool:
        """Whether all attempts at a trial were lost, so that it failed because of its workers, not its architecture."""
        return len(self._past.lost.get(number, [])) >= self.attempts

    def close(self) -> None:
        """End the running children and close the ledger."""
        self.engine.close()
        self.ledger.close()

    # -- in between ---------------------------------------------------------------------------------------------

    def _ready(self) -> int | None:
        if self.ordered:
            first = next(iter(self._open))
            if first not in self._results and first in self._past.ended:
                self._results[first] = self._past.ended.pop(first)
            return first if first in self._results else None
        if self._past.ended:  # results before the kill came in this order
            number = next(iter(self._past.ended))
            if number not in self._open:
                raise CheckpointError(
                    f"trial {number} of {self.ledger.path.name} ended before this search proposes it: it was written "
                    "under other settings; start in another folder"
                )
            self._results = {number: self._past.ended.pop(number)} | self._results
            return number
        return next(iter(self._results), None)

    def _take(self, number: int, proposal: Proposal) -> None:
        self._open[number] = proposal
        if self.reuse:
            self._forms[number] = self.canonical(proposal.architecture)

    def _note(self, response: Response) -> None:
        proposal = self._open.pop(response.trial)
        taken = (proposal.architecture, proposal.info, response.curve, response.seconds, response.reason)
        self.returned.append(Trial(response.trial, *taken))
        if self.reuse:
            self._known.setdefault(self._forms.pop(response.trial), response)

    def _enqueue(self, number: int) -> None:
        """Queue a trial, unless an equal one has ended or is open: then it gets the result of that one."""
        form = self._forms.get(number)
        if form is not None and (same := self._known.get(form)) is not None:
            self._end(Response(number, 1, same.status, same.curve, 0.0, same.reason))
        elif form is not None and any(other < number and f == form for other, f in self._forms.items()):
            self._twins.append(number)
        else:
            self._waiting.append(number)

    def _end_twins(self) -> None:
        twins, self._twins = self._twins, []
        for number in twins:
            self._enqueue(number)

    # -- the engine's side --------------------------------------------------------------------------------------

    def _submit(self) -> None:
        while self._waiting and len(self._running) < self.engine.slots:
            number = self._waiting.popleft()
            attempt = self._past.attempts.get(number, 0) + 1
            if self.gave_up(number):
                lost = self._past.lost[number]
                reason = f"lost {len(lost)} times, at last: {lost[-1]}"
                self._end(Response(number, attempt - 1, "failed", reason=reason))
                continue
            self._past.attempts[number] = self._running[number] = attempt
            self.ledger.append("started", {"trial": number, "attempt": attempt})
            self.engine.submit(self._request(number, attempt))

    def _request(self, number: int, attempt: int) -> Request:
        proposal, inherits = self._open[number], None
        if proposal.parent is not None and self.keep:
            parent = next(trial for trial in self.returned if trial.number == proposal.parent)
            inherits = Inherited(parent.architecture, self.keep(parent.number))
        keep = self.keep(number) if self.keep else None
        seed = mix(self.seed, "child", number)
        return Request(number, attempt, proposal.architecture, seed, inherits, keep, proposal.bars)

    def _wait(self) -> None:
        if not self.engine.instant:
            self.ledger.sync()
        if StopRequest.signum:  # what has ended is in the ledger
            self.engine.close()
            StopRequest.leave(StopRequest.signum, together=True)
        for response in self.engine.finished(_PATIENCE):
            if self._running.get(response.trial) != response.attempt:
                continue  # of an attempt that was given up
            del self._running[response.trial]
            if response.status == "lost":
                event = {"trial": response.trial, "attempt": response.attempt, "reason": response.reason}
                self.ledger.append("lost", event)
                self._past.lost.setdefault(response.trial, []).append(response.reason)
                self._waiting.appendleft(response.trial)
            else:
                self._end(response)
        self._submit()

    def _end(self, response: Response) -> None:
        if response.status == "finished" and not (response.curve and all(map(math.isfinite, response.curve))):
            reason = f"its figures are {list(response.curve)}"
            response = replace(response, status="failed", curve=(), reason=reason)
        content = response.to_dict()
        self.ledger.append(content.pop("status"), content)
        self._results[response.trial] = response

    # -- what is in a checkpoint --------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Position of the search in the ledger; the ledger is on the disk before the checkpoint."""
        self.ledger.sync()
        return {"proposed": self.proposed, "returned": [trial.number for trial in self.returned]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the position of a search, before its first proposal.

        Args:
            state: result of :meth:`state`; the ledger must reach that position.
        """
        self.proposed = state["proposed"]
        for number in range(self.proposed):
            self._take(number, self._past.proposed[number])
        for number in state["returned"]:
            self._note(self._past.ended.pop(number))
        for number in self._open:
            if number not in self._past.ended:
                self._enqueue(number)
        self._submit()


class _Past:
    """The events of a ledger by trial."""

    def __init__(self, events: list[Event]) -> None:
        self.proposed: dict[int, Proposal] = {}
        self.ended: dict[int, Response] = {}  # in the order in which they did
        self.attempts: dict[int, int] = {}
        self.lost: dict[int, list[str | None]] = {}  # reasons
        for event in events:
            number = event["trial"]
            if event["event"] == "proposed":
                self.proposed[number] = _proposal(event)
            elif event["event"] == "started":
                self.attempts[number] = int(event["attempt"])
            elif event["event"] == "lost":
                self.lost.setdefault(number, []).append(event["reason"])
            elif event["event"] in ("finished", "failed"):
                content = {name: value for name, value in event.items() if name != "event"}
                numbers = {"curve": [float(figure) for figure in event["curve"]], "seconds": float(event["seconds"])}
                self.ended.setdefault(number, Response.from_dict(content | numbers | {"status": event["event"]}))


def _proposal(event: Event) -> Proposal:
    return Proposal(Architecture.from_dict(event["architecture"]), event["info"], event["parent"], tuple(event["bars"]))
