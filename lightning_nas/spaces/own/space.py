"""A person's own module as a search space."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import networkx as nx
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError, shown
from lightning_nas.ops.counts import count_macs, count_params
from lightning_nas.ops.mixed import Mix
from lightning_nas.spaces.base import Keys, Operation, Supernet, Taken, WeightSharingSpace, no_auxiliary
from lightning_nas.spaces.gates import Gates, Joint
from lightning_nas.spaces.own.attention import convert
from lightning_nas.spaces.own.costs import Unit, units
from lightning_nas.spaces.own.elastic import (
    Depth,
    Element,
    Pick,
    Sizes,
    conditions,
    couple,
    element_sizes,
    find,
)
from lightning_nas.spaces.own.explanation import Explanation, Three, explained
from lightning_nas.spaces.own.inputs import OneInput, inputs_of
from lightning_nas.spaces.own.networks import extracted, fresh, narrowed, with_classes
from lightning_nas.spaces.own.reading import copied, read
from lightning_nas.spaces.own.resizing import RESOLUTION, Resolution, resize
from lightning_nas.spaces.own.resolution import find_resolution
from lightning_nas.spaces.own.rules import KEEP, SKIP, parse
from lightning_nas.spaces.own.supernet import OwnSupernet
from lightning_nas.spaces.own.templates import sites
from lightning_nas.spaces.own.trying import working
from lightning_nas.spaces.own.varied import Setting, vary
from lightning_nas.spaces.own.written import (
    check_fits,
    drop_options,
    has_choices,
    place_choices,
    replaced_by_rules,
    take_values,
    written,
)
from lightning_nas.spaces.sizes import classes_of


class FromModel(WeightSharingSpace):
    """A module of one's own as a search space: narrower layers, smaller kernels, residual blocks left out.

    The module runs once without values, and the channels are followed through every function of torch that it calls:
    layers that must have one width (residual sums, depthwise and grouped convolutions, squeeze and excitation,
    concatenations, norms, tied weights) are one decision. What cannot be followed stays whole and :meth:`explain` says
    why. The supernet begins with the module's weights and uses the first channels of each group, so the largest
    architecture is the module itself to the bit, under its own names.

    Args:
        module: the network; it is not changed. It returns logits (N, num_classes), or (N, T, num_classes) for words (N,
            T), alone or as the entry ``logits`` of a mapping, as Hugging Face's models do.
        example: an input (N, ...), or its shape with the batch if it is floating. A tensor of whole numbers for words;
            a tuple or a dict of tensors for a module of several inputs, whose supernet takes the same. Data of this
            library are one tensor; with several inputs, train the supernet in a loop of your own.
        rules: what becomes elastic; by default everything that can but the resolution. Each is a mapping with
            ``match``, a glob of module names, and ``type``, the name of a class, and of these: ``width`` (True, or
            ``ratios`` and ``divisor``), ``depth`` (True: residual blocks may be left out), ``kernel`` (True, or sizes:
            the centre is kept),
            ``choices`` (operations in the place of the module: ``"keep"``, ``"skip"``, a layer of torch as in
            ``{"_target_": "torch.nn.Conv2d", "kernel_size": 5}`` or several in a list, a module, a function of the
            module that makes one, or ``{name: one of these}``), ``resolution`` (sizes of the images besides that of
            the example, or ``ratios`` of its sides and ``divisor``; True for half and three quarters; such a rule has
            no match, and only such a rule makes the size a decision) and ``frozen`` (True: nothing of these modules
            is searched). Channels, stride and padding that a layer is not given are those of its place, and so are the
            words ``in`` and ``out``, as in ``"groups": "in"``. Of several rules for a module the last counts. A module
            with choices of its own (:mod:`lightning_nas.choice`) needs rules only for what else is to be searched.
        num_classes: width of the output; if the module's is another, its last layer is replaced by a fresh one.
        name: name of the space, which its architectures carry.

    Attributes:
        fixed: (what, why) of everything that stays whole.

    Raises:
        InputError: the module does not run on the example or does not return logits, a rule is wrong, a choice in the
            module cannot be made, or nothing of the module can be searched.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 10))
        >>> space = FromModel(net, (1, 3, 8, 8))
        >>> [(decision.name, decision.options) for decision in space.decisions]
        [('0.width', ('8', '16')), ('0.kernel', ('k3', 'k5'))]
        >>> supernet = space.supernet()
        >>> space.extract(supernet, space.smallest)[3]
        Linear(in_features=512, out_features=10, bias=True)
        >>> torch.equal(space.extract(supernet, space.largest)[0].weight, net[0].weight)
        True
        >>> space = FromModel(net, (1, 3, 8, 8), rules=[{"type": "Conv2d", "width": {"ratios": [0.5, 1]}}])
        >>> [decision.options for decision in space.decisions]
        [('8', '16')]
        >>> pooled = nn.Sequential(nn.Conv2d(3, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
        >>> space = FromModel(pooled, (1, 3, 8, 8), rules=[{"resolution": [6]}, {"match": "0", "width": True}])
        >>> [(decision.name, decision.options) for decision in space.decisions]
        [('resolution', ('6', '8')), ('0.width', ('8', '16'))]
        >>> words = nn.Sequential(nn.Embedding(30, 16), nn.Linear(16, 30))
        >>> space = FromModel(words, torch.zeros(1, 5, dtype=torch.int64))
        >>> tuple(space.supernet()(torch.tensor([[3, 4, 5, 29, 0]]), space.gates(space.smallest)).shape)
        (1, 5, 30)
    """

    def __init__(
        self,
        module: nn.Module,
        example: Tensor | Sequence[int] | Sequence[Tensor] | Mapping[str, Tensor],
        rules: Sequence[Mapping[str, Any]] | None = None,
        *,
        num_classes: PositiveInt | None = None,
        name: str = "from_model",
    ) -> None:
        if not isinstance(module, nn.Module):
            raise InputError(f"FromModel needs a torch.nn.Module, got {shown(module)}")
        self.name = name
        self._inputs = inputs_of(example)
        self.input_shape, self.input_dtype = tuple(self._inputs.tensors[0].shape[1:]), self._inputs.tensors[0].dtype
        self._module = copy.deepcopy(module)
        given = has_choices(module)
        told = parse([] if rules is None and given else rules, list(self._module.named_modules()))
        self._replaced = replaced_by_rules(self._module, told)
        self._sites = sites(self._module, self._inputs, self._replaced)
        misfits = place_choices(self._module, self._replaced, self._sites)
        places = take_values(self._module)
        convert(self._module)
        self._resolution, lost = find_resolution(self._module, self._inputs, told)
        resize(self._module, self._resolution)
        reading = read(self._module, self._inputs)
        self._dropped = reading.misfits
        misfits = {**misfits, **self._dropped}
        check_fits(self._replaced, misfits)
        if self._dropped:
            drop_options(self._module, self._dropped)
            reading = read(self._module, self._inputs)
        if num_classes is not None and num_classes != reading.classes:
            self._module = with_classes(self._module, reading, num_classes)
            reading = read(self._module, self._inputs)
        self.num_classes = reading.classes
        form, together = None, True
        asked, self._loose = written(self._module, reading, places)
        if self._loose:
            vary(self._module, self._loose)
            reading = read(self._module, self._inputs)
        while form is None:
            asked = self._asked(written(self._module, reading, places)[0])
            found = find(self._module, reading, told, asked)
            found.fixed += [(f"{path}: option {option}", why) for (path, option), why in misfits.items()]
            found.fixed += [(f"resolution {size}", why) for size, why in lost.items()]
            form = working(self._module, reading, found, self._inputs, asked, pairs=together)
            together = couple(reading, found.failed)
            form = None if together else form
        self._form = form
        self._reading, self.fixed = reading, found.fixed
        if not self._form.elements:
            reasons = "; ".join(f"{what}: {why}" for what, why in found.fixed[:3])
            raise InputError(f"nothing of the module can be searched: {reasons or 'no rule names anything'}")
        self.decisions = tuple(Decision(name, options) for name, options in self._form.decisions.items())
        self.gate_options = {self._form.groups[d.name]: d.options for d in self.decisions}
        self.gate_shapes = {group: (1, len(options)) for group, options in self.gate_options.items()}

    def _asked(self, written: Sequence[Element]) -> list[Element]:
        """The decisions of choices in the module, and that of the resolution."""
        if self._resolution is None:
            return list(written)
        if any(element.name == RESOLUTION for element in written):
            raise InputError(f"a choice in the module is called {RESOLUTION}, as the decision of a rule is; rename it")
        return [self._resolution, *written]

    mixes = False
    nests = True
    pretrained = True

    # -- architectures ------------------------------------------------------------------------------------------

    @property
    def smallest(self) -> Architecture:
        """The architecture with the first option of every decision."""
        return self.canonical(self.validate({d.name: d.options[0] for d in self.decisions}))

    @property
    def largest(self) -> Architecture:
        """The module as it was given."""
        return self.validate({d.name: d.options[-1] for d in self.decisions})

    @property
    def middle(self) -> Architecture:
        """The middle width and kernel everywhere, with every block."""
        chosen = {d.name: d.options[len(d.options) // 2] for d in self.decisions}
        return self.validate(chosen)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Give decisions that only concern modules that the network does not have their last option."""
        chosen = dict(architecture.choices)
        sizes = self._form.sizes(architecture.options)
        for decision in self.decisions:
            if self._is_idle(decision.name, sizes):
                chosen[decision.name] = decision.options[-1]
        return self.validate(chosen)

    def _is_idle(self, name: str, sizes: Sizes) -> bool:
        """Whether a network has none of the modules that a decision concerns."""
        kept = replace(sizes, left_out=frozenset())  # a block that is left out can be put back
        return all(
            (kept if isinstance(element, Depth) else sizes).lacks(path)
            for element in self._concerning[name]
            for path in element.paths
        )

    @cached_property
    def _concerning(self) -> dict[str, list[Element]]:
        """What each decision changes."""
        return {d.name: [e for e in self._form.elements if e.name == d.name] for d in self.decisions}

    def meaning(self, option: str) -> str:
        """Explain the name of an option in plain words.

        Options of widths are numbers of channels, those of blocks are plain words.
        """
        if option[:1] == "k" and option[1:].isdigit():
            return f"the central {option[1:]} of the kernel on each axis"
        picks = [e for e in self._form.elements if isinstance(e, Pick) and option in e.options]
        if picks and option not in (KEEP, SKIP):
            modules = [self._module.get_submodule(f"{e.path}.{option}".lstrip(".")) for e in picks]
            return f"{option}: {' '.join(repr(modules[0]).split())}"[:100]
        return option

    def as_written(self) -> FromModel:
        """The space of the function of torchvision that builds the module, if there is one; else this space."""
        return self._written

    @cached_property
    def _written(self) -> FromModel:
        from lightning_nas.spaces.own.built import twin

        return (twin(self) if type(self) is FromModel else None) or self

    def explain(self, milliseconds: Mapping[str, float] | Callable[[nn.Module], float] | None = None) -> Explanation:
        """Explain what is searched, what is coupled, what stays whole and why, and the range of sizes.

        Args:
            milliseconds: a latency table of the space, or a function that takes the time of a network; None leaves
                latencies out.
        """
        three = (self.smallest, self.middle, self.largest)
        networks = [self.subject(self._counted(architecture)) for architecture in three]
        taken = None
        if callable(milliseconds):
            with torch.random.fork_rng(devices=[]):
                taken = _three(milliseconds(self.network(architecture)) for architecture in three)
        elif milliseconds is not None:
            taken = _three(self.cost(architecture, milliseconds) for architecture in three)
        return explained(
            self._form.elements,
            self.fixed,
            _three(count_params(network) for network, _, _ in networks),
            _three(count_macs(*subject) for subject in networks),
            taken,
        )

    def _counted(self, architecture: Architecture) -> nn.Module:
        """The network of an architecture without values, where its code runs without them."""
        device = torch.device("meta" if self._reading.batch > 2 else "cpu")
        return narrowed(copied(self._module, device), self._form, self._form.sizes(architecture.options))

    # -- networks -----------------------------------------------------------------------------------------------

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> nn.Module:
        """The module cut to an architecture, with fresh weights.

        Modules with ``reset_parameters`` draw theirs; parameters of other modules begin as the user's are.
        """
        no_auxiliary(self, auxiliary)
        sizes = self._form.sizes(self.validate(architecture).options)
        network = narrowed(copy.deepcopy(self._module), self._form, sizes)
        if (classes := classes_of(num_classes, self.num_classes)) != self.num_classes:
            network = with_classes(network, self._reading, classes)
        return fresh(network).train()

    def supernet(self, mix: Mix | None = None) -> OwnSupernet:
        """The module with the user's weights, which all architectures share.

        Raises:
            InputError: ``mix`` is given: options are slices of one weight, not modules that could be mixed otherwise.
        """
        if mix is not None:
            raise InputError(
                f"options of {self.name} are slices of one weight, so a method cannot mix them its own way; "
                "search it with spos, enas, random_ws, fbnet, gdas, snas or darts, or with a trial strategy"
            )
        return OwnSupernet(self.begun(), self._form)

    def example(self, count: int, generator: torch.Generator) -> Any:
        """Draw inputs of a batch, in the form of the example that the space was made with.

        Normal numbers; for whole numbers rows of the embedding that reads them, or else rows of the example.
        """
        return self._inputs.drawn(count, generator)

    def subject(self, network: nn.Module) -> tuple[nn.Module, tuple[int, ...], torch.dtype]:
        """A network as it is measured and counted: of one input, the first; others are those of the example."""
        alone = network if self._inputs.is_plain else OneInput(network, self._inputs)
        return super().subject(alone)

    def begun(self) -> nn.Module:
        """The module with the weights that a supernet begins with."""
        return copy.deepcopy(self._module)

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows, one group for each decision."""
        chosen = {
            self._form.groups[d.name]: [d.options.index(option)]
            for d, option in zip(self.decisions, self.validate(architecture).options, strict=True)
        }
        return Gates.one_hot(chosen, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """The most probable option of every decision."""
        chosen = {d.name: d.options[int(probabilities[self._form.groups[d.name]][0].argmax())] for d in self.decisions}
        return self.canonical(self.validate(chosen))

    def parts(self) -> tuple[tuple[Taken, ...], ...]:
        """Decisions that concern modules which others drop are a part with these; every other decision is a part."""
        found = []
        for names in self._together():
            alternatives = dict[tuple[str, ...], None]()
            for chosen in self._taken(names, {}):
                alternatives[tuple(chosen[name] for name in names)] = None
            decisions = [next(d for d in self.decisions if d.name == name) for name in names]
            found.append(
                tuple(
                    tuple(
                        (self._form.groups[d.name], 0, d.options.index(option))
                        for d, option in zip(decisions, options, strict=True)
                    )
                    for options in alternatives
                )
            )
        return tuple(found)

    @cached_property
    def _droppers(self) -> dict[str, frozenset[str]]:
        """For each decision, those that may leave out all that it concerns."""
        under = {
            name: [frozenset(conditions(self._form.elements, path)) for e in elements for path in e.paths]
            for name, elements in self._concerning.items()
        }
        return {n: frozenset().union(*each) - {n} if all(each) else frozenset() for n, each in under.items()}

    def _together(self) -> list[list[str]]:
        """Names of decisions that make a part, the first ones drop modules of the later ones."""
        graph = nx.Graph([(d, name) for name, droppers in self._droppers.items() for d in droppers])
        graph.add_nodes_from(self._form.decisions)
        order = {name: number for number, name in enumerate(self._form.decisions)}
        found = []
        for names in sorted((sorted(part, key=order.__getitem__) for part in nx.connected_components(graph)),
                            key=lambda names: order[names[0]]):  # fmt: skip
            placed = list[str]()
            while len(placed) < len(names):
                rest = [name for name in names if name not in placed]
                free = [name for name in rest if self._droppers[name] <= set(placed)]
                placed.append((free or rest)[0])
            found.append(placed)
        return found

    def _taken(self, names: Sequence[str], chosen: dict[str, str]) -> Iterator[dict[str, str]]:
        """Every combination of options of some decisions, in which idle ones have their last option."""
        if not names:
            yield chosen
            return
        options = self._form.decisions[names[0]]
        known = [element for element in self._form.elements if element.name in chosen]
        idle = self._is_idle(names[0], element_sizes(known, chosen))
        for option in options[-1:] if idle else options:
            yield from self._taken(names[1:], {**chosen, names[0]: option})

    def extract(self, supernet: Supernet, architecture: Architecture) -> nn.Module:
        """The user's module cut to an architecture, with a copy of the shared weights under the user's names."""
        assert isinstance(supernet, OwnSupernet)
        return extracted(supernet.network, self._form, self._form.sizes(self.validate(architecture).options))

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """The layers that sum over channels, and what each reads."""
        sizes = self._form.sizes(self.validate(architecture).options)
        graph: nx.DiGraph[str] = self._reading.graph.copy()
        for node in list(graph):
            path = node.partition(" (")[0]
            if sizes.is_left_out(path):
                graph.add_edges_from((a, b) for a in graph.predecessors(node) for b in graph.successors(node))
            if sizes.lacks(path):
                graph.remove_node(node)
        for source, node, options in list(graph.edges(data="options")):
            path = node.partition(" (")[0]
            taken = sizes.picked.get(path, str(sizes.depths.get(path)))
            if options is not None and taken not in options:
                graph.remove_edge(source, node)
        chosen = dict(self.validate(architecture).choices)
        for element in self._form.elements:
            if isinstance(element, Resolution):
                graph.nodes["input"]["label"] += f"\n{chosen[element.name]}"
            elif element.paths[0] in graph and not isinstance(element, Setting):
                graph.nodes[element.paths[0]]["label"] += f"\n{chosen[element.name]}"
        return graph

    # -- cost ---------------------------------------------------------------------------------------------------

    @cached_property
    def _units(self) -> list[Unit]:
        return units(self._form, dict(self._module.named_parameters()))

    @cached_property
    def _priced(self) -> list[dict[tuple[str, ...], tuple[str, Operation]]]:
        """For each unit, key and operation by the options of its decisions."""
        priced = []
        for unit in self._units:
            made = {}
            for options in unit.options():
                chosen = dict(zip(unit.decides, options, strict=True))
                key, operation = unit.operation(element_sizes(unit.elements, chosen))
                made[options] = (f"{options[0]} {key}" if len(options) == 1 else key, operation)
            priced.append(made)
        return priced

    def operations(self) -> dict[str, Operation]:
        """Every function of the module in every size."""
        return dict(entry for made in self._priced for entry in made.values())

    def cost_keys(self, architecture: Architecture) -> Keys:
        """The functions that an architecture runs."""
        chosen = dict(self.validate(architecture).choices)
        keys = []
        for unit, made in zip(self._units, self._priced, strict=True):
            if entry := made.get(tuple(chosen[name] for name in unit.decides)):
                keys.append(entry[0])
        return tuple(keys)

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """Functions of one size always run; those that one decision sizes belong to its options."""
        fixed, rows = list[str](), {group: [list[str]() for _ in names] for group, names in self.gate_options.items()}
        for unit, made in zip(self._units, self._priced, strict=True):
            if not unit.decides:
                fixed.append(made[()][0])
            elif len(unit.decides) == 1:
                group = self._form.groups[next(iter(unit.decides))]
                for (option,), (key, _) in made.items():
                    rows[group][self.gate_options[group].index(option)].append(key)
        return tuple(fixed), {group: (tuple(map(tuple, row)),) for group, row in rows.items()}

    def joint_keys(self) -> tuple[Joint, ...]:
        """Functions that several decisions size: a convolution between two groups of channels."""
        found = []
        for unit, made in zip(self._units, self._priced, strict=True):
            if len(unit.decides) > 1:
                for options, (key, _) in made.items():
                    pairs = zip(unit.decides, options, strict=True)
                    gates = tuple(
                        (self._form.groups[name], 0, self._form.decisions[name].index(option)) for name, option in pairs
                    )
                    found.append(Joint((key,), gates, "all"))
        return tuple(found)


def _three(figures: Iterable[float]) -> Three:
    smallest, middle, largest = figures
    return smallest, middle, largest
