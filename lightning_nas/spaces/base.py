"""The contract of a search space: what can be built, whoever chooses.

:class:`SearchSpace` is enough for strategies that train children on their own; :class:`WeightSharingSpace` adds a
supernet. ``lightning_nas.testing.SpaceCase`` proves every invariant stated here.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError, InvalidArchitecture, LatencyTableError, shown
from lightning_nas.ops.mixed import Mix
from lightning_nas.spaces.cell_graphs import CellGraph
from lightning_nas.spaces.gates import Gates, Joint

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    """One distinct thing a latency table must know: how to build it and what it is fed.

    ``input_shape`` is without the batch, (C, H, W) for images; ``dtype`` is int64 where it is fed words.
    """

    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32


class SearchSpace(ABC):
    """A set of architectures and the networks they stand for.

    Attributes:
        name: the name architectures of this space carry.
        decisions: in the order in which a controller takes them.
        input_shape: (C, H, W) of one image, (T,) of one row of words.
        input_dtype: int64 for words.
        num_classes: width of the classifier; with words, how many there are.
    """

    name: str
    decisions: tuple[Decision, ...]
    input_shape: tuple[int, ...]
    input_dtype: torch.dtype = torch.float32
    num_classes: int

    # -- architectures ------------------------------------------------------------------------------------------

    def options(self, decision: Decision, partial: Mapping[str, str]) -> tuple[str, ...]:
        """The options still legal for ``decision`` after the decisions in ``partial``.

        An empty tuple says that the decision is not taken at all (spaces of variable length).
        """
        del partial
        return decision.options

    def sample(self, generator: torch.Generator) -> Architecture:
        """Draw every decision uniformly from its legal options."""
        return self.complete({}, generator)

    def complete(self, wishes: Mapping[str, str], generator: torch.Generator) -> Architecture:
        """Take each decision as in ``wishes`` where that is legal, and draw the others uniformly."""
        choices: dict[str, str] = {}
        for decision in self.decisions:
            if legal := self.options(decision, choices):
                wished = wishes.get(decision.name)
                if wished not in legal:
                    wished = legal[int(torch.randint(len(legal), (), generator=generator))]
                choices[decision.name] = wished
        return self.validate(choices)

    def different(self, count: int, generator: torch.Generator) -> list[Architecture]:
        """So many different architectures, drawn uniformly; fewer where a small space has not as many."""
        drawn: dict[Architecture, None] = {}
        for _ in range(100 * count):
            drawn[self.canonical(self.sample(generator))] = None
            if len(drawn) == count:
                break
        return list(drawn)

    def mutate(self, architecture: Architecture, generator: torch.Generator) -> Architecture:
        """Change one decision, drawn uniformly, to another legal option.

        Decisions after it that the change makes illegal are drawn again.

        Raises:
            InvalidArchitecture: nothing can be changed.
        """
        old = dict(architecture.choices)
        free = [d for d in self.decisions if d.name in old and len(self.options(d, _before(old, d.name))) > 1]
        if not free:
            raise InvalidArchitecture(f"the space {self.name!r} has no decision to change")
        target = free[int(torch.randint(len(free), (), generator=generator))]
        choices: dict[str, str] = {}
        for decision in self.decisions:
            legal = self.options(decision, choices)
            if decision == target:
                legal = tuple(option for option in legal if option != old[decision.name])
            elif decision.name in old and old[decision.name] in legal:
                legal = (old[decision.name],)
            if legal:
                drawn = int(torch.randint(len(legal), (), generator=generator)) if len(legal) > 1 else 0
                choices[decision.name] = legal[drawn]
        return self.validate(choices)

    def validate(self, choices: Architecture | Mapping[str, str]) -> Architecture:
        """The architecture made of ``choices``, in this space's order.

        Raises:
            InvalidArchitecture: says which decision, what came and what is legal.
        """
        if isinstance(choices, Architecture):
            if choices.space != self.name:
                raise InvalidArchitecture(
                    f"the architecture is of the space {shown(choices.space)}, not of {self.name!r}; "
                    f"name its space with search_space={shown(choices.space)[1:-1]}"
                )
            choices = dict(choices.choices)
        known = {decision.name for decision in self.decisions}
        if unknown := [name for name in choices if name not in known]:
            raise InvalidArchitecture(
                f"{self.name} has no decision {shown(unknown[0])}; its {len(known)} decisions run from "
                f"{self.decisions[0].name!r} to {self.decisions[-1].name!r}"
            )
        taken: dict[str, str] = {}
        for decision in self.decisions:
            legal = self.options(decision, taken)
            came = choices.get(decision.name)
            if (came is None and legal) or (came is not None and came not in legal):
                missing = "is missing" if came is None else f"cannot be {shown(came)}"
                raise InvalidArchitecture(
                    f"{self.name}: {decision.name} {missing}; legal: {', '.join(legal) or 'none'}"
                )
            if came is not None:
                taken[decision.name] = came
        return Architecture.of(self.name, taken)

    def canonical(self, architecture: Architecture) -> Architecture:
        """The one architecture that stands for all that are equal to this one as a search sees them.

        Two architectures are equal if they build the same network *and* inherit the same shared weights.
        """
        return architecture

    def meaning(self, option: str) -> str:
        """Explain the name of an option in plain words, for reports and help.

        A name that is a plain word or number, or that the space does not know, is returned as it is.

        >>> from lightning_nas.spaces.chains.fbnet import FBNetSpace
        >>> FBNetSpace().meaning("k5_e6")
        '5x5 kernel, expansion 6'
        """
        return option

    # -- networks -----------------------------------------------------------------------------------------------

    @abstractmethod
    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> nn.Module:
        """The stand-alone network with fresh weights from torch's global generator.

        Args:
            architecture: an architecture of this space.
            num_classes: width of the classifier, the space's own unless given.
            auxiliary: with an auxiliary classifier, whose logits come second, in training mode only.

        Raises:
            InputError: an auxiliary classifier is wanted where the space has none.
        """

    def evaluation(self) -> SearchSpace:
        """The space whose network is retrained and reported: another size of this one, or this one itself."""
        return self

    def example(self, count: int, generator: torch.Generator) -> Tensor:
        """Inputs (count, *input_shape) such as the networks take: normal numbers, or words drawn uniformly."""
        shape = (count, *self.input_shape)
        if self.input_dtype.is_floating_point:
            return torch.randn(shape, dtype=self.input_dtype, generator=generator)
        return torch.randint(self.num_classes, shape, dtype=self.input_dtype, generator=generator)

    @abstractmethod
    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """The network as an acyclic graph whose nodes have a ``label``, for pictures."""

    def cell_graphs(self, architecture: Architecture) -> dict[str, CellGraph]:
        """Each distinct cell by its name, for pictures; none where a network is not made of cells.

        Made by :func:`~lightning_nas.spaces.cell_graphs.cell_graph`: one operation for every option chosen.
        """
        del architecture
        return {}

    # -- cost ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def operations(self) -> dict[str, Operation]:
        """Every distinct operation of the space by its cost key: what a latency table must hold."""

    @abstractmethod
    def cost_keys(self, architecture: Architecture) -> Keys:
        """The keys whose costs add up to the cost of one architecture, repeated as often as they are run."""

    def cost(self, architecture: Architecture, table: Mapping[str, float]) -> float:
        """The sum of the table's entries over what the architecture runs, in the table's unit.

        Raises:
            LatencyTableError: an entry is missing.
        """
        return sum(look_up(table, key) for key in self.cost_keys(architecture))

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that change whenever the decisions or the operations do, their sizes included."""
        operations = {key: _described(operation) for key, operation in sorted(self.operations().items())}
        content = [self.name, [[d.name, d.options] for d in self.decisions], operations]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


class Supernet(nn.Module, ABC):
    """All networks of a space in one, sharing weights. It knows nothing of strategies: gates say what to mix."""

    @abstractmethod
    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits (N, num_classes) of a batch (N, C, H, W) under ``gates``."""


class Gated(nn.Module):
    """A supernet under fixed gates: logits of what a network is fed."""

    def __init__(self, supernet: Supernet, gates: Gates) -> None:
        super().__init__()
        self.supernet, self.gates = supernet, gates.to(next(supernet.parameters()).device)

    def forward(self, x: Any) -> Tensor:
        logits: Tensor = self.supernet(x, self.gates)
        return logits


class WeightSharingSpace(SearchSpace):
    """A space with a supernet.

    Attributes:
        gate_shapes: (choices, options) of each group of gates.
        gate_options: the names of each group's options.
    """

    gate_shapes: dict[str, tuple[int, int]]
    gate_options: dict[str, tuple[str, ...]]

    @abstractmethod
    def supernet(self, mix: Mix | None = None) -> Supernet:
        """A fresh supernet, with weights from torch's global generator.

        Args:
            mix: makes the module of each choice; the space's own form unless given.
        """

    def nodes(self, group: str) -> tuple[int, ...]:
        """The node that each choice of a group leads to, in order; choices of one node are summed there.

        A choice has a node of its own unless a space says otherwise.
        """
        return tuple(range(self.gate_shapes[group][0]))

    def deeper(self, cells: int) -> WeightSharingSpace:
        """The same choices in a network with ``cells`` more cells; a space of fixed depth gives itself."""
        del cells
        return self

    @abstractmethod
    def gates(self, architecture: Architecture) -> Gates:
        """The one-hot gates that select ``architecture``."""

    @abstractmethod
    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """The paper's discretisation of ``{group: (choices, options)}`` probabilities."""

    def derive_above(self, weights: Mapping[str, Tensor], threshold: float) -> Architecture:
        """A discretisation that keeps every option with so large a weight: an architecture of :meth:`wider`.

        Where a choice takes one option, whatever the weights, that is :meth:`derive`.
        """
        del threshold
        return self.derive(weights)

    def wider(self) -> SearchSpace:
        """The space of what :meth:`derive_above` gives, in the size that is retrained."""
        return self.evaluation()

    @abstractmethod
    def extract(self, supernet: Supernet, architecture: Architecture) -> nn.Module:
        """The stand-alone network that inherits (copies) the shared weights of ``architecture``."""

    @abstractmethod
    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """What is always run, and what each option of each choice of each group adds: cost keys."""

    def joint_keys(self) -> tuple[Joint, ...]:
        """What several choices decide together, and so no option alone adds; nothing unless a space says otherwise."""
        return ()

    def cost_matrices(self, table: Mapping[str, float]) -> tuple[float, dict[str, Tensor]]:
        """The fixed cost, and (choices, options) float64 matrices of the cost each option adds.

        The expected cost of any gates is ``fixed + sum(gates * matrix)``, and that of :meth:`joint_keys`.

        Raises:
            LatencyTableError: an entry is missing.
        """
        fixed, groups = self.gate_keys()
        matrices = {
            group: torch.tensor(
                [[sum(look_up(table, key) for key in keys) for keys in row] for row in rows], dtype=torch.float64
            )
            for group, rows in groups.items()
        }
        return sum(look_up(table, key) for key in fixed), matrices


def no_auxiliary(space: SearchSpace, auxiliary: bool) -> None:
    """Refuse an auxiliary classifier for a space whose networks have none.

    Raises:
        InputError: one is wanted.
    """
    if auxiliary:
        raise InputError(f"networks of {space.name} have no auxiliary classifier; leave auxiliary=False")


def _described(operation: Operation) -> list[object]:
    with torch.device("meta"):  # no memory, no random number
        module = operation.build()
    shapes = {name: list(value.shape) for name, value in module.state_dict().items()}
    return [list(operation.input_shape), repr(module), shapes]


def look_up(table: Mapping[str, float], key: str) -> float:
    """``table[key]``, or an error that shows what the table does hold."""
    try:
        return table[key]
    except KeyError:
        raise LatencyTableError(
            f"no latency for {key!r}; the table has {len(table)} entries, e.g. {shown(next(iter(table), None))}"
        ) from None


def shape_text(shape: Iterable[int]) -> str:
    """A shape as it is written in a cost key.

    >>> shape_text((3, 32, 32))
    '3x32x32'
    """
    return "x".join(map(str, shape))


def _before(choices: Mapping[str, str], name: str) -> dict[str, str]:
    names = list(choices)
    return {key: choices[key] for key in names[: names.index(name)]}
