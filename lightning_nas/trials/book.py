"""The book of trials: takes proposals, gives them to an engine, writes the ledger, and returns results one by one.

The next step of a search depends on its seed and on the order of the results. The ledger holds that order, so a search
that was killed resumes exactly: it makes the same proposals again, takes known results from the ledger instead of
training, and repeats lost attempts. With ``ordered`` results are returned in the order of proposals, which depends on
the seed alone and not on the engine.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from lightning_nas.architecture import Architecture
from lightning_nas.errors import CheckpointError, InputError, shown
from lightning_nas.training.checkpoint import unsealed
from lightning_nas.training.seeding import mix
from lightning_nas.training.signals import StopRequest
from lightning_nas.trials.archive import Archive
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.ledger import MOST_TRIALS, Event, Ledger
from lightning_nas.trials.requests import Inherited, Request, Response

_PATIENCE = 0.2  # seconds between two checks for a signal
_ENDS = ("finished", "failed")


@dataclass(frozen=True)
class Proposal:
    """An architecture that a search wants to have trained.

    Attributes:
        architecture: the architecture.
        info: notes of the strategy as plain JSON, returned with the result and kept in the ledger.
        parent: number of the trial whose weights the network inherits; None for fresh weights.
        bars: rewards to be reached by epoch, see :class:`~lightning_nas.trials.requests.Request`.
        epochs: epochs after which the training pauses, counted from its beginning; None to train to the end. Such a
            trial has its own result, also if its architecture was trained before.
        continues: number of the trial whose training goes on, one that paused after fewer epochs; None to begin.
    """

    architecture: Architecture
    info: dict[str, Any] = field(default_factory=dict)
    parent: int | None = None
    bars: tuple[float, ...] = ()
    epochs: int | None = None
    continues: int | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that has ended.

    Attributes:
        number: index in the order of proposals, from 0.
        architecture: as proposed.
        info: as proposed.
        curve: figure of the task after each epoch of this trial; empty for a failed trial.
        seconds: duration of the training; 0 for a repeated architecture.
        reason: reason of the failure; None for a finished trial.
        epochs: as proposed.
        continues: as proposed.
    """

    number: int
    architecture: Architecture
    info: dict[str, Any]
    curve: tuple[float, ...]
    seconds: float
    reason: str | None
    epochs: int | None = None
    continues: int | None = None

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
        untrained: whether all attempts at all of them were lost.
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
        self.returned = Archive(ledger.path.with_suffix(".index"), partial(_ended, ledger))
        self.untrained = True
        self._open: dict[int, Proposal] = {}
        self._forms: dict[int, Architecture] = {}  # of open trials, canonical
        self._lines: dict[int, list[int]] = {}  # of open trials: places in the ledger of their proposals and ends
        self._results: dict[int, Response] = {}  # of open trials, in the order in which they came
        self._waiting, self._running = deque[int](), dict[int, int]()  # trials; attempts of those that run
        self._twins: list[int] = []  # open trials of architectures that are open before them

    @cached_property
    def _past(self) -> _Past:
        return _Past(self.ledger)

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
        known = self._past.proposed.pop(number, None)
        if known is None:
            event = {"trial": number, "architecture": architecture.to_dict(), "info": proposal.info}
            event |= {"parent": proposal.parent, "bars": list(proposal.bars)}
            if proposal.epochs is not None:
                event |= {"epochs": proposal.epochs, "continues": proposal.continues}
            self._lines[number] = [self.ledger.append("proposed", event)]
        elif known.architecture != architecture:
            raise CheckpointError(
                f"trial {number} of {self.ledger.path.name} is {shown(str(known.architecture))}, this search proposes "
                f"{architecture}: it was written under other settings; start in another folder"
            )
        else:
            self._lines[number] = self._past.lines.pop(number)
        self._open[number], self._forms[number] = proposal, self.canonical(architecture)
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

    def place(self, form: Architecture) -> int | None:
        """Place in :attr:`returned` of the first trial whose architecture has this canonical form."""
        place = self.returned.first(_digest(form))
        known = place is not None and self.canonical(self.returned[place].architecture) == form
        return place if known else None

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

    def _note(self, response: Response) -> None:
        number = response.trial
        proposal, form = self._open.pop(number), _digest(self._forms.pop(number))
        self.untrained = self.untrained and self._gave_up(number)
        self._past.attempts.pop(number, None)
        self._past.lost.pop(number, None)
        proposed, ended = self._lines.pop(number)
        self.returned.append(_trial(number, proposal, response), proposed=proposed, ended=ended, form=form)

    def _gave_up(self, number: int) -> bool:
        """Whether all attempts at a trial were lost, so that it failed because of its workers, not its architecture."""
        return len(self._past.lost.get(number, [])) >= self.attempts

    def _enqueue(self, number: int) -> None:
        """Queue a trial, unless an equal one has ended or is open: then it gets the result of that one."""
        form = self._forms[number]
        if self._open[number].epochs is not None:
            self._waiting.append(number)
        elif self.reuse and (place := self.place(form)) is not None:
            same = self.returned[place]
            self._end(Response(number, 1, "failed" if same.failed else "finished", same.curve, 0.0, same.reason))
        elif self.reuse and any(other < number and f == form for other, f in self._forms.items()):
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
            if self._gave_up(number):
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
            inherits = self._inherited(number, proposal.parent, self.keep)
        keep = self.keep(number) if self.keep else None
        first, after, resumes = number, 0, None
        if proposal.continues is not None:
            first, after = self._continued(number, proposal.continues)
            resumes = self.keep(proposal.continues) if self.keep else None
        seed = mix(self.seed, "child", first)
        how = (keep, proposal.bars, proposal.epochs, after, resumes)
        return Request(number, attempt, proposal.architecture, seed, inherits, *how)

    def _continued(self, number: int, before: int) -> tuple[int, int]:
        """The trial that began a training, whose seed all that continue it have; and the epochs trained so far."""
        trained = None
        while True:
            place = self.returned.place(before)
            if place is None or (trial := self.returned[place]).epochs is None:
                raise CheckpointError(
                    f"{self.ledger.path.name}: trial {number} continues trial {before}, which did not pause"
                )
            trained = trained or trial.epochs
            if trial.continues is None:
                return before, trained
            before = trial.continues

    def _inherited(self, number: int, parent: int, keep: Callable[[int], str]) -> Inherited:
        """The weights of a parent, whose file is read first: with a damaged one child after child would fail."""
        place = self.returned.place(parent)
        if place is None:
            raise CheckpointError(
                f"{self.ledger.path.name}: trial {number} inherits from trial {parent}, which is open"
            )
        try:
            unsealed(Path(keep(parent)))
        except CheckpointError as reason:
            raise CheckpointError(
                f"trial {number} inherits the weights of trial {parent}: {reason}; restore it or start in another "
                "folder"
            ) from None
        return Inherited(self.returned[place].architecture, keep(parent))

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
        self._lines[response.trial].append(self.ledger.append(content.pop("status"), content))
        self._results[response.trial] = response

    # -- what is in a checkpoint --------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """How far the search is; the same after any number of kills."""
        return {"proposed": self.proposed, "returned": len(self.returned), "untrained": self.untrained}

    def position(self) -> dict[str, Any]:
        """Flush the ledger and write the index; returns how to continue from them without reading the ledger."""
        self.ledger.sync()
        start = min((lines[0] for lines in self._lines.values()), default=self.ledger.bytes)
        return {"start": start, **self.returned.position()}

    def load_state(self, state: Mapping[str, Any], position: Mapping[str, Any] | None = None) -> None:
        """Restore the position of a search, before its first proposal.

        Args:
            state: result of :meth:`state`; the ledger must reach that position.
            position: result of :meth:`position` at the same time; without it the whole ledger is read.

        Raises:
            CheckpointError: it is not the state of a search with this ledger.
        """
        self.proposed, returned = _counts(state)
        start = 0
        if position and position["rows"] == returned and self.returned.restore(position):
            self.untrained, start = state["untrained"], position["start"]
        else:
            self._rebuild(returned)
        done = range(len(self.returned)) if self.ordered else set(self.returned.numbers)
        self._past = past = _Past(self.ledger, start, done)
        for number in sorted(number for number in past.proposed if number < self.proposed):
            proposal = past.proposed.pop(number)
            self._lines[number] = past.lines.pop(number)
            self._open[number], self._forms[number] = proposal, self.canonical(proposal.architecture)
        if len(self._open) + len(self.returned) != self.proposed:
            raise CheckpointError(f"the checkpoint is malformed: {self.ledger.path.name} has other trials than it says")
        for number in self._open:
            if number not in past.ended:
                self._enqueue(number)
        self._submit()

    def _rebuild(self, returned: int | list[int]) -> None:
        """Find the trials that were returned in the ledger: the index is damaged, or there is none."""
        self.returned = Archive(self.returned.path, partial(_ended, self.ledger))
        proposed, ended, lost = dict[int, int](), dict[int, int](), Counter[int]()
        for event, place in self.ledger.read():
            if event["event"] == "proposed":
                proposed[event["trial"]] = place
            elif event["event"] in _ENDS:
                ended.setdefault(event["trial"], place)
            elif event["event"] == "lost":
                lost[event["trial"]] += 1
        if isinstance(returned, int):  # checkpoints of 0.1 list them
            order = sorted(ended) if self.ordered else ended
            returned = list(itertools.islice(order, min(returned, len(ended))))
        for number in returned:
            trial = _ended(self.ledger, number, proposed[number], ended[number])
            form = _digest(self.canonical(trial.architecture))
            self.returned.append(trial, proposed=proposed[number], ended=ended[number], form=form)
        self.untrained = all(lost[number] >= self.attempts for number in returned)


class _Past:
    """The events of a ledger by trial.

    Args:
        ledger: of the search.
        start: place of the first event.
        done: trials whose events are not needed any more.
    """

    def __init__(self, ledger: Ledger, start: int = 0, done: Container[int] = ()) -> None:
        self.proposed: dict[int, Proposal] = {}
        self.ended: dict[int, Response] = {}  # in the order in which they did
        self.attempts: dict[int, int] = {}
        self.lost: dict[int, list[str | None]] = {}  # reasons
        self.lines: dict[int, list[int]] = {}  # places of the proposal and of the end
        with _complete(ledger):
            for event, place in ledger.read(start):
                if event["trial"] not in done:
                    self._add(event, place)

    def _add(self, event: Event, place: int) -> None:
        number = event["trial"]
        if event["event"] == "proposed":
            self.proposed[number], self.lines[number] = _proposal(event), [place]
        elif event["event"] == "started":
            self.attempts[number] = _whole(event["attempt"])
        elif event["event"] == "lost":
            self.lost.setdefault(number, []).append(_text(event["reason"]))
        elif number not in self.ended:
            self.ended[number] = _response(event)
            self.lines[number].append(place)


@contextmanager
def _complete(ledger: Ledger) -> Iterator[None]:
    """Turns what an incomplete event raises into an error of the checkpoint."""
    try:
        yield
    except CheckpointError:  # names the line
        raise
    except (InputError, KeyError, OverflowError, ValueError) as reason:
        raise CheckpointError(f"{ledger.path.name}: an event is incomplete: {shown(str(reason))}") from None


def _counts(state: Mapping[str, Any]) -> tuple[int, int | list[int]]:
    """Number of proposals, and number of the trials that were returned; their list in checkpoints of 0.1."""
    proposed, returned = state["proposed"], state["returned"]
    counts = [proposed, len(returned), *returned] if isinstance(returned, list) else [proposed, returned]
    if any(type(count) is not int or count < 0 for count in counts) or counts[1] > proposed:
        raise CheckpointError(f"the checkpoint is malformed: trials is {shown(state)}")
    return proposed, returned


def _ended(ledger: Ledger, number: int, proposed: int, ended: int) -> Trial:
    """A trial by the places of its two lines."""
    with _complete(ledger):
        return _trial(number, _proposal(ledger.at(proposed)), _response(ledger.at(ended)))


def _trial(number: int, proposal: Proposal, response: Response) -> Trial:
    ended = (response.curve, response.seconds, response.reason)
    return Trial(number, proposal.architecture, proposal.info, *ended, proposal.epochs, proposal.continues)


def _proposal(event: Event) -> Proposal:
    info, parent = event["info"], event["parent"]
    if not isinstance(info, dict):
        raise ValueError(f"info must be an object, not {shown(info)}")
    parent = None if parent is None else _whole(parent)
    epochs, continues = (None if event.get(k) is None else _whole(event[k]) for k in ("epochs", "continues"))
    architecture, bars = Architecture.from_dict(event["architecture"]), _numbers(event["bars"])
    return Proposal(architecture, info, parent, bars, epochs, continues)


def _response(event: Event) -> Response:
    curve, [seconds] = _numbers(event["curve"]), _numbers([event["seconds"]])
    reason = None if event["reason"] is None else _text(event["reason"])
    if strange := event.keys() - {"event", "trial", "attempt", "curve", "seconds", "reason"}:
        raise ValueError(f"unknown keys {shown(sorted(strange))}")
    if event["event"] == "finished" and not curve:
        raise ValueError("a finished trial has no curve")
    if (event["event"] == "failed") != (reason is not None):
        raise ValueError(f"a {event['event']} trial has the reason {shown(reason)}")
    return Response(_whole(event["trial"]), _whole(event["attempt"]), event["event"], curve, seconds, reason)


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MOST_TRIALS:
        raise ValueError(f"{shown(value)} is no number of a trial or an attempt")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a reason must be text, not {shown(value)}")
    return value


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or any(type(value) not in (int, float) for value in values):
        raise ValueError(f"expected a list of numbers, got {shown(values)}")
    numbers = tuple(map(float, values))
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected finite numbers, got {shown(values)}")
    return numbers


def _digest(form: Architecture) -> int:
    """64 bits that are equal for equal architectures, and hardly ever for others."""
    return int.from_bytes(hashlib.blake2b(str(form).encode(), digest_size=8).digest())
