"""The engine that trains children on all machines of a Ray cluster.

It uses only the core of Ray: one task per attempt, which Ray does not repeat, because the search counts attempts. Each
task trains its child in a process of its own, as ``engine=local`` does, so that the death of a child differs from the
death of a machine. A worker of the cluster keeps its job server, so the data are set up once per worker.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat, PositiveFloat

from lightning_nas.errors import ConfigError, EnvironmentFailure, shown
from lightning_nas.processes import cores
from lightning_nas.ranges import Threads
from lightning_nas.trials.engines.base import Engine, Job
from lightning_nas.trials.engines.process import ChildProcess, JobServer, Limits, pickled
from lightning_nas.trials.engines.resources import check_gpus, fitting
from lightning_nas.trials.requests import Request, Response

log = logging.getLogger(__name__)
_FRESH = 1.0  # seconds for which the number of slots is not looked at again
_STORE = 2**27  # bytes of Ray's object store: nothing large goes through it
_kept: tuple[tuple[bytes, str, str], JobServer] | None = None  # in a worker of the cluster


class RayEngine(Engine):
    """Train each child on a machine of a Ray cluster that has room.

    Every machine needs the library and the data under the same path; a strategy whose children inherit weights needs a
    folder that all machines share. A cluster that is started here consists of this machine alone, accepts no
    connection from elsewhere, and ends with the search.

    Args:
        job: what the children have in common; it is pickled once.
        address: HOST:PORT of a cluster, or "auto" for the one that ``ray start`` has started on this machine; it
            continues when the search ends. None starts a cluster.
        slots: number of children at once; None for as many as the cluster has room for, also when machines come and go.
        cpus: CPUs of each child, as Ray counts them; with a fraction more children run than there are cores.
        gpus: GPUs of each child, a whole number or a fraction: with 0.25 four children share a GPU, without protection
            of their memory from each other.
        threads: intra-op threads of torch in each child.
        minutes: wall-clock limit of a child, after which it is killed and failed; None for no limit.
        memory_gb: limit of a child's address space, above which it is out of memory; None for no limit.
        silent_seconds: time without a sign of life, as of a stopped process, after which a child is killed and lost.
        patience_minutes: minutes to wait for a machine when none has room for a child; then the search ends.

    Raises:
        ConfigError: Ray is not installed, there is no cluster at the address, the job cannot be pickled, or no machine
            has the resources of one child.
        EnvironmentFailure: later, no machine had the resources of one child for ``patience_minutes``.
    """

    def __init__(
        self,
        job: Job,
        *,
        address: str | None = None,
        slots: Threads | None = None,
        cpus: PositiveFloat = 1.0,
        gpus: NonNegativeFloat = 0.0,
        threads: Threads = 1,
        minutes: PositiveFloat | None = None,
        memory_gb: PositiveFloat | None = None,
        silent_seconds: PositiveFloat = 120.0,
        patience_minutes: NonNegativeFloat = 10.0,
    ) -> None:
        self.check(gpus=gpus)
        self._patience = patience_minutes
        self._wanted, self._needs = slots, {"CPU": cpus, "GPU": gpus}
        what = pickled(job)
        self._common = what, json.dumps(asdict(Limits(threads, minutes, memory_gb, silent_seconds))), str(Path.cwd())
        self._ray, self._ours = connected(address)
        # the task's own process touches no GPU, so nothing is gained by a new one for each
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0, "max_calls": 0}
        self._task = self._ray.remote(**options)(_train)
        self._running: dict[Any, tuple[Request, float]] = {}  # by reference to the result; since when
        self._looked, self._had_room, self._slots = -_FRESH, time.monotonic(), 0
        if not self.slots:
            message = self._nobody_has
            self.close()
            raise ConfigError(message)

    @classmethod
    def check(cls, *, gpus: float = 0.0, **_: Any) -> None:
        check_gpus(gpus)
        check_ray("engine=ray", "use engine=local")

    @property
    def slots(self) -> int:
        self._look_around()
        return self._slots

    def submit(self, request: Request) -> None:
        reference = self._task.remote(json.dumps(request.to_dict()), *self._common, gpus=self._needs["GPU"])
        self._running[reference] = request, time.monotonic()

    def finished(self, timeout: float) -> list[Response]:
        self._look_around()  # what waits in Ray for a machine that is gone would do so for ever
        if not self._running:
            time.sleep(timeout)
            return []
        running = list(self._running)
        self._ray.wait(running, num_returns=1, timeout=timeout)  # for the first, then whoever else is there
        ended, _ = self._ray.wait(running, num_returns=len(running), timeout=0)
        return [self._response(reference, *self._running.pop(reference)) for reference in ended]

    def close(self) -> None:
        if self._ray.is_initialized():
            for reference in self._running:
                self._ray.cancel(reference, force=True)
            if self._ours:
                self._ray.shutdown()  # of a cluster that was joined, leaves it
        self._running.clear()

    def _response(self, reference: Any, request: Request, since: float) -> Response:
        try:
            return Response.from_dict(json.loads(self._ray.get(reference)))
        except self._ray.exceptions.RayError as error:
            return Response(request.trial, request.attempt, "lost", (), time.monotonic() - since, said_by(error))

    def _look_around(self) -> None:
        """Update the number of slots, and stop waiting for room after the patience."""
        now = time.monotonic()
        if now - self._looked < _FRESH:
            return
        self._looked, before = now, self._slots
        there = sum(room(machine, self._needs) for machine in machines(self._ray))
        self._slots = min(there, self._wanted or there)
        if self._slots:
            self._had_room = now
        elif before:
            log.warning(f"no machine has room for a child any more; waiting {self._patience:g} minutes for one")
        elif now - self._had_room > 60 * self._patience:
            raise EnvironmentFailure(f"{self._nobody_has}; waited {self._patience:g} minutes for one that has")

    @property
    def _nobody_has(self) -> str:
        return nobody_has(self._ray, self._needs, "child", key="engine.")


def check_ray(asked: str, instead: str) -> None:
    """Refuse what needs Ray where it is not installed.

    Args:
        asked: what needs it, as it was asked for.
        instead: what to do without it.

    Raises:
        ConfigError: says what to install.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"{asked} needs Ray; pip install lightning_nas[ray], or {instead}")


def machines(ray: Any) -> list[dict[str, float]]:
    """Resources of each machine of the cluster that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def room(machine: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """How many times a machine has what is needed.

    >>> room({"CPU": 4.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 0.5}), room({"CPU": 4.0}, {"CPU": 8.0, "GPU": 0.0})
    (2, 0)
    """
    return min(fitting(machine.get(name, 0.0), each) for name, each in needs.items() if each)


def nobody_has(ray: Any, needs: Mapping[str, float], what: str, *, key: str = "") -> str:
    """Says that no machine of the cluster has what one child or run needs, and what the machines have."""
    there = [f"{each.get('CPU', 0):g} CPUs and {each.get('GPU', 0):g} GPUs" for each in machines(ray)]
    return (
        f"{key}cpus={needs['CPU']:g}, {key}gpus={needs['GPU']:g}: no machine of the Ray cluster has these for one "
        f"{what}; they have {', '.join(sorted(set(there))) or 'nothing'}"
    )


def connected(address: str | None, key: str = "engine.address") -> tuple[Any, bool]:
    """The module ray, and whether the caller has to end the connection.

    Args:
        address: of a cluster; None or "local" starts one that consists of this machine.
        key: of the address, for messages.

    Raises:
        ConfigError: Ray cannot be imported, or there is no cluster at the address.
    """
    starts = address in (None, "local")
    with _quietly():
        if starts:
            _lock_up()
        try:
            import ray
        except ImportError as reason:
            raise ConfigError(f"Ray cannot be imported: {reason}; pip install lightning_nas[ray]") from None
        if ray.is_initialized():  # by the caller; whose it stays
            return ray, False
        if starts:
            core: Any = ray._raylet
            core.Config.initialize("")  # read the environment again: the caller may have imported Ray before
        own: dict[str, Any] = {"num_cpus": cores(), "object_store_memory": _STORE, "include_dashboard": False}
        try:
            ray.init(address or "local", log_to_driver=False, configure_logging=False, **(own if starts else {}))
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            said = " ".join(str(error).split())[:200]
            raise ConfigError(f"{key}={shown(address)}: no Ray cluster can be used there: {said}") from None
    return ray, True


def said_by(error: Any) -> str:
    """What an error of Ray says, in one line."""
    error = getattr(error, "cause", None) or error
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence Ray and restore the handler of SIGTERM, which Ray replaces."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, handler)


def _lock_up() -> None:
    """Close the cluster to be started to everybody else, because any client can run code in it."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # a name from elsewhere; it means: the loopback device alone
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=_token())


@functools.cache
def _token() -> str:
    """One token for all clusters of this process, because Ray reads it once."""
    return secrets.token_hex(32)


def _server(job: bytes, limits: str, folder: str) -> JobServer:
    """The job server of this worker of the cluster, which stays from one child to the next."""
    global _kept
    same = _kept is not None and _kept[0] == (job, limits, folder)
    if _kept is None or not same or not _kept[1].alive:
        if _kept is not None:
            _kept[1].kill()
        _kept = (job, limits, folder), JobServer(job, Limits(**json.loads(limits)), folder)
    return _kept[1]


def _train(request: str, job: bytes, limits: str, folder: str, *, gpus: float) -> str:
    """Train one child in a worker of the cluster."""
    import ray

    devices = ",".join(map(str, ray.get_gpu_ids())) if gpus else ""
    asked = Request.from_dict(json.loads(request))
    child = ChildProcess(_server(job, limits, folder), asked, devices)
    try:
        while (response := child.ended(1.0)) is None:
            pass
    finally:  # also if the task is cancelled
        child.kill()
    return json.dumps(response.to_dict())
