"""Contracts of search spaces, whatever strategy searches them.

:class:`SearchSpace` is enough for strategies that train stand-alone networks; :class:`WeightSharingSpace` adds a
supernet. ``lightning_nas.testing.SpaceCase`` proves every invariant stated here.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import networkx as nx
import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError, InvalidArchitecture, LatencyTableError, shown
from lightning_nas.ops.mixed import Mix
from lightning_nas.signature import Checked
from lightning_nas.spaces.cell_graphs import CellGraph
from lightning_nas.spaces.gates import Gates, Joint

Keys = tuple[str, ...]
Taken = tuple[tuple[str, int, int], ...]
"""Gates that an alternative switches on: (group, choice, option)."""


@dataclass(frozen=True)
class Operation:
    """One entry of a latency table: how to build an operation, and the shape of its input.

    Attributes:
        build: makes a fresh module.
        input_shape: shape of its input without the batch, (C, H, W) for images.
        dtype: type of its input, int64 for words.
    """

    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32


class SearchSpace(Checked, ABC):
    """Set of architectures, and the networks that they describe.

    A subclass sets the attributes below and implements :meth:`network`, :meth:`graph`, :meth:`operations` and
    :meth:`cost_keys`; :class:`lightning_nas.testing.spaces.SpaceCase` tests it. Networks take images (N, C, H, W) and
    give logits (N, num_classes), those of ``pixelwise`` spaces (N, num_classes, h, w); language models take words
    (N, T) and give logits (N, T, num_classes).

    Attributes:
        name: name of the space, which its architectures carry.
        decisions: all decisions, in the order in which a controller takes them.
        input_shape: (C, H, W) of one image, (T,) of one row of words.
        input_dtype: type of the inputs, int64 for words.
        num_classes: number of classes, or of words in the vocabulary.
        made_with: arguments that the constructor was called with, by name.
        pixelwise: networks give a class for each pixel, logits (N, num_classes, h, w), for ``task=segmentation``.

    Example:
        >>> from lightning_nas.spaces.chains.fbnet import FBNetSpace
        >>> space = FBNetSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> architecture = space.sample(torch.Generator().manual_seed(0))
        >>> len(architecture.options), space.validate(architecture.to_dict()["choices"]) == architecture
        (6, True)
        >>> tuple(space.network(architecture)(torch.zeros(2, 3, 32, 32)).shape)
        (2, 10)
    """

    name: str
    decisions: tuple[Decision, ...]
    input_shape: tuple[int, ...]
    input_dtype: torch.dtype = torch.float32
    num_classes: int
    pixelwise: ClassVar[bool] = False
    made_with: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note all arguments, so that :mod:`~lightning_nas.spaces.description` can."""
        made = super().__new__(cls, *args, **kwargs)
        names = list(inspect.signature(cls.__init__).parameters)[1:]
        made.made_with = dict(zip(names, args, strict=False)) | kwargs
        return made

    # -- architectures ------------------------------------------------------------------------------------------

    def options(self, decision: Decision, partial: Mapping[str, str]) -> tuple[str, ...]:
        """List the options that are legal for ``decision`` after the decisions in ``partial``.

        An empty tuple means that the decision is not taken at all (spaces of variable length).
        """
        del partial
        return decision.options

    def sample(self, generator: torch.Generator) -> Architecture:
        """Draw every decision uniformly from its legal options."""
        return self.complete({}, generator)

    def has_path(self, architecture: Architecture) -> bool:
        """Whether the output depends on the input; false for a network that "none" cuts in two."""
        del architecture
        return True

    def complete(self, wishes: Mapping[str, str], generator: torch.Generator) -> Architecture:
        """Take every decision as ``wishes`` says where that is legal, and draw the others uniformly."""
        choices: dict[str, str] = {}
        for decision in self.decisions:
            if legal := self.options(decision, choices):
                wished = wishes.get(decision.name)
                if wished not in legal:
                    wished = legal[int(torch.randint(len(legal), (), generator=generator))]
                choices[decision.name] = wished
        return self.validate(choices)

    def different(self, count: int, generator: torch.Generator) -> list[Architecture]:
        """Draw ``count`` different architectures uniformly; fewer if the space has fewer."""
        drawn: dict[Architecture, None] = {}
        for _ in range(100 * count):
            drawn[self.canonical(self.sample(generator))] = None
            if len(drawn) == count:
                break
        return list(drawn)

    def mutate(self, architecture: Architecture, generator: torch.Generator) -> Architecture:
        """Change one decision, drawn uniformly, to another legal option.

        Later decisions that the change makes illegal are drawn again.

        Raises:
            InvalidArchitecture: nothing can be changed.
        """
        old = dict(architecture.choices)
        free = [d for d in self.decisions if d.name in old and len(self.options(d, _before(old, d.name))) > 1]
        if not free:
            raise InvalidArchitecture(f"the space {self.name!r} has no decision to change")
        target = free[int(torch.randint(len(free), (), generator=generator))]
        others = [o for o in self.options(target, _before(old, target.name)) if o != old[target.name]]
        return self._changed(old, target, others, generator)

    def neighbours(self, architecture: Architecture, generator: torch.Generator) -> list[Architecture]:
        """Every architecture that differs in one decision; later decisions that it makes illegal are drawn again.

        Args:
            architecture: of this space.
            generator: of the decisions that are drawn again.

        Example:
            >>> from lightning_nas.testing.toys import ToySpace
            >>> space = ToySpace(2)
            >>> keep = space.validate({"layer_1": "keep", "layer_2": "keep"})
            >>> [other.options for other in space.neighbours(keep, torch.Generator())]
            [('blur', 'keep'), ('swap', 'keep'), ('keep', 'blur'), ('keep', 'swap')]
        """
        old = dict(architecture.choices)
        return [
            self._changed(old, decision, [option], generator)
            for decision in self.decisions
            if decision.name in old
            for option in self.options(decision, _before(old, decision.name))
            if option != old[decision.name]
        ]

    def _changed(
        self, old: Mapping[str, str], target: Decision, options: Sequence[str], generator: torch.Generator
    ) -> Architecture:
        """The architecture of ``old`` with one of the options at ``target``, and legal decisions after it."""
        choices: dict[str, str] = {}
        for decision in self.decisions:
            legal = self.options(decision, choices)
            if decision == target:
                legal = tuple(options)
            elif decision.name in old and old[decision.name] in legal:
                legal = (old[decision.name],)
            if legal:
                drawn = int(torch.randint(len(legal), (), generator=generator)) if len(legal) > 1 else 0
                choices[decision.name] = legal[drawn]
        return self.validate(choices)

    def validate(self, choices: Architecture | Mapping[str, str]) -> Architecture:
        """Check ``choices`` and return the architecture, in this space's order.

        Raises:
            InvalidArchitecture: names the decision, what came and what is legal.
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
        """Return the representative of all architectures that a search cannot tell from this one.

        Two architectures are equivalent if they build the same network *and* inherit the same shared weights.
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
        """Build the stand-alone network, with fresh weights from torch's global generator.

        Args:
            architecture: an architecture of this space.
            num_classes: width of the classifier; the space's own unless given.
            auxiliary: add an auxiliary classifier: in training mode the network returns (logits, auxiliary logits).

        Raises:
            InputError: an auxiliary classifier is asked for, and the space has none; or ``num_classes`` is below 1.
        """

    def evaluation(self) -> SearchSpace:
        """Return the space of the network that is retrained: another size of this space, or this space."""
        return self

    def as_written(self) -> SearchSpace:
        """This space in the form that files can describe, if it has another one."""
        return self

    def example(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw inputs (count, *input_shape): normal numbers for images, uniform words for texts."""
        shape = (count, *self.input_shape)
        if self.input_dtype.is_floating_point:
            return torch.randn(shape, dtype=self.input_dtype, generator=generator)
        return torch.randint(self.num_classes, shape, dtype=self.input_dtype, generator=generator)

    def subject(self, network: nn.Module) -> tuple[nn.Module, tuple[int, ...], torch.dtype]:
        """A network as it is measured and counted: with the shape and the type of its input."""
        return network, self.input_shape, self.input_dtype

    @abstractmethod
    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """Draw the network as an acyclic graph whose nodes have a ``label``."""

    def cell_graphs(self, architecture: Architecture) -> dict[str, CellGraph]:
        """Draw each distinct cell, by name; empty if networks are not made of cells.

        Graphs are made by :func:`~lightning_nas.spaces.cell_graphs.cell_graph`: one operation for every option chosen.
        """
        del architecture
        return {}

    # -- cost ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def operations(self) -> dict[str, Operation]:
        """List every distinct operation by cost key: the entries that a latency table must have."""

    @abstractmethod
    def cost_keys(self, architecture: Architecture) -> Keys:
        """List the keys whose costs add up to the cost of an architecture, each as often as it is run."""

    def cost(self, architecture: Architecture, table: Mapping[str, float]) -> float:
        """Sum the table's entries over all operations that the architecture runs, and its constant, in its unit.

        Raises:
            LatencyTableError: an entry is missing.
        """
        return constant_of(table) + sum(look_up(table, key) for key in self.cost_keys(architecture))

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that change whenever decisions, operations or their sizes change."""
        operations = {key: _described(operation) for key, operation in sorted(self.operations().items())}
        content = [self.name, [[d.name, d.options] for d in self.decisions], operations]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


class Supernet(nn.Module, ABC):
    """All networks of a space in one, with shared weights. Gates say what it mixes; it knows no strategy."""

    @abstractmethod
    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Compute logits (N, num_classes) of a batch (N, C, H, W) under ``gates``."""


class Gated(nn.Module):
    """Supernet under fixed gates, called like a stand-alone network."""

    def __init__(self, supernet: Supernet, gates: Gates) -> None:
        super().__init__()
        self.supernet, self.gates = supernet, gates.to(next(supernet.parameters()).device)

    def forward(self, x: Any) -> Tensor:
        logits: Tensor = self.supernet(x, self.gates)
        return logits


class WeightSharingSpace(SearchSpace):
    """Search space with a supernet, for one-shot strategies.

    Attributes:
        gate_shapes: (choices, options) of each group of gates.
        gate_options: names of each group's options.
        pretrained: a supernet begins with trained weights.
        mixes: options are modules that :meth:`supernet` mixes as a method says; False if they share one weight.
        nests: every network is a part of the largest one; such a space has architectures ``smallest`` and ``largest``.

    Example:
        >>> from lightning_nas.spaces.darts.space import DARTSSpace
        >>> space = DARTSSpace(input_shape=(1, 8, 8), num_classes=10)
        >>> architecture = space.sample(torch.Generator().manual_seed(0))
        >>> supernet, gates = space.supernet(), space.gates(architecture)
        >>> tuple(supernet(torch.zeros(2, 1, 8, 8), gates).shape), space.derive(gates.values) == architecture
        ((2, 10), True)
    """

    gate_shapes: dict[str, tuple[int, int]]
    gate_options: dict[str, tuple[str, ...]]
    mixes: bool = True
    nests: bool = False
    pretrained: bool = False

    @abstractmethod
    def supernet(self, mix: Mix | None = None) -> Supernet:
        """Build the supernet, with fresh weights from torch's global generator.

        Args:
            mix: makes the module of each choice; the space's own fused or plain form unless given.

        Raises:
            InputError: ``mix`` is given and the space does not mix modules (:attr:`mixes`).
        """

    def nodes(self, group: str) -> tuple[int, ...]:
        """List the node that each choice of a group leads to; the choices of one node are summed.

        By default each choice has a node of its own.
        """
        return tuple(range(self.gate_shapes[group][0]))

    def deeper(self, cells: int) -> WeightSharingSpace:
        """Return the space with the same choices and ``cells`` more cells; a space of fixed depth returns itself."""
        del cells
        return self

    @abstractmethod
    def gates(self, architecture: Architecture) -> Gates:
        """Make the one-hot gates that select ``architecture``."""

    @abstractmethod
    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """Discretise probabilities ``{group: (choices, options)}`` by the paper's rule."""

    def derive_above(self, weights: Mapping[str, Tensor], threshold: float) -> Architecture:
        """Discretise by keeping every option whose weight reaches ``threshold``: an architecture of :meth:`wider`.

        Equal to :meth:`derive` in spaces whose choices take exactly one option.
        """
        del threshold
        return self.derive(weights)

    def wider(self) -> SearchSpace:
        """Return the space of the architectures of :meth:`derive_above`, in the size that is retrained."""
        return self.evaluation()

    @abstractmethod
    def extract(self, supernet: Supernet, architecture: Architecture) -> nn.Module:
        """Build the stand-alone network with a copy of the shared weights of ``architecture``."""

    @abstractmethod
    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """List cost keys: of the parts that always run, and of every option of every choice of each group."""

    def joint_keys(self) -> tuple[Joint, ...]:
        """List the costs that several choices decide together; none by default."""
        return ()

    def parts(self) -> tuple[tuple[Taken, ...], ...]:
        """List the independent parts of an architecture, for each its alternatives as the gates they switch on.

        Every architecture takes one alternative of each part, and every such selection is one: :meth:`derive` of its
        gates, zero elsewhere. By default each choice is a part. Costs add up over the parts, besides those of
        :meth:`joint_keys`.
        """
        return tuple(
            tuple(((group, choice, option),) for option in range(options))
            for group, (choices, options) in self.gate_shapes.items()
            for choice in range(choices)
        )

    def cost_matrices(self, table: Mapping[str, float]) -> tuple[float, dict[str, Tensor]]:
        """Return the fixed cost, and (choices, options) float64 matrices of the cost that each option adds.

        The fixed cost is that of the parts that always run, and the table's constant.
        The expected cost under gates is ``fixed + sum(gates * matrix)`` plus that of :meth:`joint_keys`.

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
        return constant_of(table) + sum(look_up(table, key) for key in fixed), matrices


def no_auxiliary(space: SearchSpace, auxiliary: bool) -> None:
    """Refuse an auxiliary classifier for a space whose networks have none.

    Raises:
        InputError: an auxiliary classifier is asked for.
    """
    if auxiliary:
        raise InputError(f"networks of {space.name} have no auxiliary classifier; leave auxiliary=False")


def _described(operation: Operation) -> list[object]:
    with torch.device("meta"):  # no memory, no random number
        module = operation.build()
    shapes = {name: list(value.shape) for name, value in module.state_dict().items()}
    return [list(operation.input_shape), repr(module), shapes]


def look_up(table: Mapping[str, float], key: str) -> float:
    """Return ``table[key]``, or raise an error that shows an entry of the table."""
    try:
        return table[key]
    except KeyError:
        raise LatencyTableError(
            f"no latency for {key!r}; the table has {len(table)} entries, e.g. {shown(next(iter(table), None))}"
        ) from None


def constant_of(table: Mapping[str, float]) -> float:
    """What every network costs beyond its operations; 0 for a mapping that does not say."""
    return float(getattr(table, "constant", 0.0))


def shape_text(shape: Iterable[int]) -> str:
    """Write a shape as in cost keys.

    >>> shape_text((3, 32, 32))
    '3x32x32'
    """
    return "x".join(map(str, shape))


def _before(choices: Mapping[str, str], name: str) -> dict[str, str]:
    names = list(choices)
    return {key: choices[key] for key in names[: names.index(name)]}
