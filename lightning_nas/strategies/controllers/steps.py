"""Order of the decisions of a controller, and which of them refer to earlier nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from lightning_nas.architecture import Decision


@dataclass(frozen=True)
class ControllerStep:
    """A step of the recurrent network.

    Attributes:
        decisions: decisions taken from the state after the step; several for the connections of a node.
        anchor: node that the state after the step represents.
        anew: whether the step reads the start vector instead of the last choice.
    """

    decisions: tuple[Decision, ...] = ()
    anchor: str | None = None
    anew: bool = False


def connects(decision: Decision) -> bool:
    """Whether the decision connects an earlier node: the first option is no, the second yes."""
    return len(decision.refers) == 1 and len(decision.options) == 2


def refers(decision: Decision) -> tuple[str, ...]:
    """The nodes whose anchors the decision needs."""
    return decision.refers if decision.is_index or connects(decision) else ()


def plan(decisions: Sequence[Decision]) -> tuple[ControllerStep, ...]:
    """The steps of the recurrent network through these decisions."""
    steps, known = list[ControllerStep](), set[str]()
    referred = {node for decision in decisions for node in refers(decision)}
    for node, group in groupby(decisions, key=lambda decision: decision.node):
        asked = list(group)
        unknown = dict.fromkeys(name for decision in asked for name in refers(decision) if name not in known)
        steps += [ControllerStep(anchor=name, anew=True) for name in unknown]
        known |= {*unknown}
        for joined, run in groupby(asked, key=connects):
            together = tuple(run)
            steps += (
                [ControllerStep(together, anchor=node)]
                if joined
                else [ControllerStep((decision,)) for decision in together]
            )
        if node is not None and referred:
            steps += [] if connects(asked[-1]) else [ControllerStep(anchor=node)]
            known.add(node)
    while not steps[-1].decisions:
        steps.pop()  # no decision follows
    return tuple(steps)
