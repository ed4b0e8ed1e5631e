"""The order in which a controller takes decisions, and which of them are about earlier nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from lightning_nas.architecture import Decision


@dataclass(frozen=True)
class Step:
    """A step of the recurrent network.

    Attributes:
        decisions: answered from the state after it; several, if they are a node's connections.
        anchor: the node that the state after it stands for.
        anew: it reads the start and not what was chosen last.
    """

    decisions: tuple[Decision, ...] = ()
    anchor: str | None = None
    anew: bool = False


def connects(decision: Decision) -> bool:
    """Whether the choice is if an earlier node is connected: no is the first option, yes the second."""
    return len(decision.refers) == 1 and len(decision.options) == 2


def refers(decision: Decision) -> tuple[str, ...]:
    """The nodes there must be anchors of."""
    return decision.refers if decision.is_index or connects(decision) else ()


def plan(decisions: Sequence[Decision]) -> tuple[Step, ...]:
    """The steps of the recurrent network through these decisions."""
    steps, known = list[Step](), set[str]()
    referred = {node for decision in decisions for node in refers(decision)}
    for node, group in groupby(decisions, key=lambda decision: decision.node):
        asked = list(group)
        unknown = dict.fromkeys(name for decision in asked for name in refers(decision) if name not in known)
        steps += [Step(anchor=name, anew=True) for name in unknown]
        known |= {*unknown}
        for joined, run in groupby(asked, key=connects):
            together = tuple(run)
            steps += [Step(together, anchor=node)] if joined else [Step((decision,)) for decision in together]
        if node is not None and referred:
            steps += [] if connects(asked[-1]) else [Step(anchor=node)]
            known.add(node)
    while not steps[-1].decisions:
        steps.pop()  # nothing is decided after it
    return tuple(steps)
