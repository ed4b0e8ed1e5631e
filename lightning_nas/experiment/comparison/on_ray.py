"""The runs of a comparison on all machines of a Ray cluster: one task of Ray for each run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveFloat

from lightning_nas.errors import ConfigError
from lightning_nas.experiment.comparison.plan import Maker, Plan
from lightning_nas.experiment.comparison.runs import Job, make_run
from lightning_nas.signature import Checked
from lightning_nas.trials.engines.ray import connected, machines, nobody_has, room, said_by
from lightning_nas.trials.engines.resources import check_gpus

_LOOK = 1.0  # seconds between two looks, in which Ctrl-C is heard


class Cluster(Checked):
    """A Ray cluster on which the runs of a comparison are made.

    Every machine needs the library, the data and the folder of the comparison under the same paths. Runs that share a
    machine share its processor, so a budget in seconds means the same for all of them only if each has CPUs of its own.

    Args:
        address: HOST:PORT of a cluster, "auto" for the one that ``ray start`` has started on this machine, or "local"
            for one that is started here, consists of this machine alone, and ends with the comparison.
        cpus: CPUs of each run, as Ray counts them.
        gpus: GPUs of each run, a whole number or a fraction.

    Raises:
        ConfigError: a number of GPUs that is neither a fraction of one nor whole.

    Example:
        >>> Cluster("auto", cpus=2).needs
        {'CPU': 2, 'GPU': 0.0}
    """

    def __init__(self, address: str = "local", *, cpus: PositiveFloat = 1.0, gpus: NonNegativeFloat = 0.0) -> None:
        check_gpus(gpus, "gpus")
        self.address, self.needs = address, {"CPU": cpus, "GPU": gpus}

    def make(self, plan: Plan, maker: Maker, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:
        """Make runs, as many at once as there is room; yields each as it ends, with the reason why it failed or None.

        A run whose machine or process dies has failed; a later call goes on with it from its checkpoint.

        Args:
            plan: of the comparison.
            maker: of the runs; it is pickled.
            jobs: the runs.

        Raises:
            ConfigError: there is no cluster at the address, or no machine of it has the CPUs and GPUs of one run.
        """
        ray, ours = connected(self.address, "ray")
        running = {}
        try:
            if not any(room(machine, self.needs) for machine in machines(ray)):
                raise ConfigError(nobody_has(ray, self.needs, "run"))
            task = ray.remote(num_cpus=self.needs["CPU"], num_gpus=self.needs["GPU"], max_retries=0)(_made)
            common = ray.put((plan, maker, str(Path.cwd())))
            running = {task.remote(common, job): job for job in jobs}
            while running:
                ended, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK)
                for reference in ended:
                    try:
                        reason = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        reason = said_by(error)
                    yield running.pop(reference), reason
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            if ours:
                ray.shutdown()


def _made(common: tuple[Plan, Maker, str], job: Job) -> str | None:
    """Make one run in a worker of the cluster."""
    plan, maker, folder = common
    os.chdir(folder)
    return make_run(plan, maker, job)
