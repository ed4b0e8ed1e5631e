"""The trials of a search: proposed, given to an engine, written down, and handed back one after another.

What a search does next is a function of its seed and of the order in which results came. The order is in the ledger, so
a search that was killed anywhere goes on exactly: it proposes again what it had proposed, takes results it knows from
the ledger instead of training for them, and attempts again what was lost. With ``ordered`` results are handed back in
the order of proposals, and that order is a function of the seed alone, whatever the engine.
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

_PATIENCE = 0.2  # seconds between two looks for a signal


@dataclass(frozen=True)
class Proposal:
    """What a search wants to know of.

    Attributes:
        architecture: to be trained.
        info: plain JSON that the strategy wants back with the result; it is in the ledger too.
        parent: the trial whose weights it begins with; None for fresh ones.
        bars: rewards it must reach by epoch, see :class:`~lightning_nas.trials.requests.Request`.
    """

    architecture: Architecture
    info: dict[str, Any] = field(default_factory=dict)
    parent: int | None = None
    bars: tuple[float, ...] = ()


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    Attributes:
        number: from 0, in the order of proposals.
        architecture: as proposed.
        info: as proposed.
        curve: the task's figure after each epoch; empty if it failed.
        seconds: of training; of a repeated architecture none.
        reason: why it failed; None if it did not.
    """

    number: int
    architecture: Architecture
    info: dict[str, Any]
    curve: tuple[float, ...]
    seconds: float
    reason: str | None

    @property
    def failed(self) -> bool:
        """Whether there is no figure of it."""
        return self.reason is not None


class Trials:
    """Keeps an engine busy, and the ledger.

    Args:
        engine: runs them.
        ledger: what is known so far, and where it goes.
        seed: of everything random.
        in_flight: proposals that may be open at a time, at least 1; more than slots, and no slot waits for the search.
        ordered: hand results back in the order of proposals, else as they come.
        attempts: how often a trial is tried whose worker is lost; those cut off because the search itself was do not
            count.
        reuse: a repeated architecture has the result of the first, and is not trained.
        canonical: the form in which equal architectures are equal.
        keep: the file that a trial's weights are written to; None for none.

    Attributes:
        returned: the trials handed back, in order.
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
            raise CheckpointError(f"{ledger.path.name}: an event lacks what it needs: {shown(str(reason))}") from None

    # -- the search's side --------------------------------------------------------------------------------------

    @property
    def wants(self) -> bool:
        """Whether another proposal would be taken now."""
        return len(self._open) < self.in_flight

    def propose(self, proposal: Proposal) -> None:
        """Take a proposal.

        Raises:
            CheckpointError: the ledger knows this trial with another architecture.
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
        """The next trial that has ended, waiting for it; None if none is open."""
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
        """Whether all attempts at a trial were lost: it failed for what became of its workers, not for what it is."""
        return len(self._past.lost.get(number, [])) >= self.attempts

    def close(self) -> None:
        """End what runs, and the ledger."""
        self.engine.close()
        self.ledger.close()

    # -- in between ---------------------------------------------------------------------------------------------

    def _ready(self) -> int | None:
        if self.ordered:
            first = next(iter(self._open))
            if first not in self._results and first in self._past.ended:
                self._results[first] = self._past.ended.pop(first)
            return first if first in self._results else None
        if self._past.ended:  # what came before the kill came in this order
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
        """Have a trial run, unless an equal one is known, or is open before it: then it ends as that does."""
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
                continue  # given up before it came
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
        """Where in the ledger the search stands; the ledger is on the disk before a checkpoint is."""
        self.ledger.sync()
        return {"proposed": self.proposed, "returned": [trial.number for trial in self.returned]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to where a search stood, before it proposes anything.

        Args:
            state: of :meth:`state`, with a ledger that goes so far.
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
    """What a ledger says of each trial."""

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
