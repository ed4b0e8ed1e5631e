"""Networks that nobody searched for: one random draw, the largest ones, and a hand-made one."""

from __future__ import annotations

from functools import partial

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.experiment.comparison.plan import Method
from lightning_nas.experiment.run import Run
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.evolution import cheapest
from lightning_nas.strategies.one_path.spos import Nested
from lightning_nas.strategies.target import Target
from lightning_nas.training.seeding import generator
from lightning_nas.zoo import load, names

HAND_MADE = {
    "nasbench201": "nasbench201_resnet",
    "nasbench201_small": "nasbench201_resnet",
    "tiny": "tiny_separable",
}
"""The hand-made network of a space, by the space's name: an entry of the zoo."""


def network_of(method: Method, run: Run, hand_made: str | None) -> Architecture:
    """The architecture of a method that searches nothing.

    Args:
        method: "one draw" depends on the seed of the run, the others do not.
        run: whose space it is of, and whose target it keeps.
        hand_made: a name of the zoo or a file.

    Raises:
        InputError: the hand-made network is not of this space.
    """
    target = Target.of(run.space, run.latency_table() if run.target else None, run.target, run.seed)
    rng = generator(run.seed, "one draw")
    if method.kind == "one draw":
        drawn = run.space.sample(rng)
        return drawn if target is None else target.nearest(drawn, rng)
    if method.kind == "hand-made":
        assert hand_made is not None
        return of_space(run, hand_made)
    return largest(run.space, "params" if method.kind == "most parameters" else "macs", target)


def largest(space: SearchSpace, unit: str, target: Target | None = None) -> Architecture:
    """The architecture of most parameters or multiply-adds, within a target if there is one.

    Climbs by changing one decision at a time, from three random starts: exact where costs add up over decisions.

    Args:
        space: of the architecture.
        unit: "params" or "macs".
        target: costs that it must keep.

    Raises:
        ConfigError: the space lists no operations to count.

    Example:
        >>> from lightning_nas.testing.toys import ToySpace
        >>> str(largest(ToySpace(), "macs"))
        'keep keep'
    """
    if isinstance(space, Nested) and target is None:
        return space.largest
    table = LatencyTable.params(space) if unit == "params" else LatencyTable.macs(space)
    if not len(table):
        raise ConfigError(f"{space.name} lists no operations, so it is not known which network is the largest")
    cost = partial(space.cost, table=table)

    def smallness(architecture: Architecture) -> float:
        if target is None or target.keeps(architecture):
            return -cost(architecture)
        return max(target.gaps(architecture))  # above every network that keeps it

    return space.canonical(cheapest(space, smallness, generator(0, "largest")))


def of_space(run: Run, name: str) -> Architecture:
    """A named architecture as one of the run's space; one of the same decisions in another size is taken too."""
    if name not in names():
        return run.given(name)
    choices, wanted = load(name).choices, [decision.name for decision in run.space.decisions]
    if [decision for decision, _ in choices] == wanted:
        return run.space.validate(dict(choices))
    return run.given(name)
