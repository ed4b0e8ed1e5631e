"""The conformance suite of search spaces."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from typing import Any

import networkx as nx
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError, InvalidArchitecture, LatencyTableError
from lightning_nas.latency.cost import ExpectedCost
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.latency.sources import Macs
from lightning_nas.ops.mixed import Choice, MixedOp, plain
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.testing.expected_cost import ExpectedCostCase
from lightning_nas.training.seeding import seeded


class SpaceCase(ExpectedCostCase):
    """Conformance suite of a space: subclass it and define the fixture ``space``, of a small size.

    A test builds a few networks. Tests of supernets are skipped for spaces that are no :class:`WeightSharingSpace`.

    Example:
        >>> class TestMySpace(SpaceCase):  # doctest: +SKIP
        ...     @pytest.fixture
        ...     def space(self):
        ...         return MySpace(image_size=8)
    """

    draws = 300
    every_weight_trains = True  #: False where a built operation may have no effect on the output

    @pytest.fixture
    def space(self) -> SearchSpace:
        """The space under test."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'space'")

    @pytest.fixture
    def architectures(self, space: SearchSpace) -> list[Architecture]:
        """Three drawn architectures."""
        generator = torch.Generator().manual_seed(1)
        return [space.sample(generator) for _ in range(3)]

    # -- architectures ------------------------------------------------------------------------------------------

    def test_architectures_survive_a_round_trip_through_json(
        self, space: SearchSpace, architectures: list[Architecture]
    ) -> None:
        for architecture in architectures:
            back = Architecture.from_json(architecture.to_json())
            assert back == architecture
            assert back.key == architecture.key
            assert space.validate(back) == architecture

    def test_validate_puts_choices_into_the_spaces_order(
        self, space: SearchSpace, architectures: list[Architecture]
    ) -> None:
        for architecture in architectures:
            backwards = dict(reversed(architecture.choices))
            assert space.validate(backwards) == architecture

    def test_errors_of_validate_name_decision_value_and_options(
        self, space: SearchSpace, architectures: list[Architecture]
    ) -> None:
        choices = dict(architectures[0].choices)
        name = next(iter(choices))
        with pytest.raises(InvalidArchitecture, match=name) as caught:
            space.validate({**choices, name: "no such option"})
        assert "no such option" in str(caught.value)
        assert choices[name] in str(caught.value)
        with pytest.raises(InvalidArchitecture, match="no_such_decision"):
            space.validate({**choices, "no_such_decision": "x"})
        with pytest.raises(InvalidArchitecture, match=name):
            space.validate({key: option for key, option in choices.items() if key != name})
        with pytest.raises(InvalidArchitecture, match="another"):
            space.validate(Architecture("another", architectures[0].choices))

    def test_sampling_covers_every_option(self, space: SearchSpace) -> None:
        generator = torch.Generator().manual_seed(2)
        seen = Counter(choice for _ in range(self.draws) for choice in space.sample(generator).choices)
        assert set(seen) >= {(decision.name, option) for decision in space.decisions for option in decision.options}

    def test_decisions_refer_to_earlier_nodes(self, space: SearchSpace) -> None:
        last = {decision.node: i for i, decision in enumerate(space.decisions) if decision.node}
        for i, decision in enumerate(space.decisions):
            assert all(last.get(node, -1) < i and node != decision.node for node in decision.refers)
            assert not decision.is_index or len(decision.refers) == len(decision.options)

    def test_sampling_is_a_function_of_the_generator(self, space: SearchSpace) -> None:
        first, second = (space.sample(torch.Generator().manual_seed(3)) for _ in range(2))
        assert first == second

    def test_every_mutation_is_legal_and_changes_something(
        self, space: SearchSpace, architectures: list[Architecture]
    ) -> None:
        generator = torch.Generator().manual_seed(4)
        for architecture in architectures:
            for _ in range(20):
                mutant = space.mutate(architecture, generator)
                assert mutant != architecture
                assert space.validate(mutant) == mutant

    def test_neighbours_are_legal_and_change_each_decision_in_every_way(
        self, space: SearchSpace, architectures: list[Architecture]
    ) -> None:
        architecture = architectures[0]
        expected, partial = [], dict[str, str]()
        for name, chosen in architecture.choices:
            [decision] = [known for known in space.decisions if known.name == name]
            expected += [(name, option) for option in space.options(decision, partial) if option != chosen]
            partial[name] = chosen
        neighbours = space.neighbours(architecture, torch.Generator().manual_seed(4))
        changed = []
        for neighbour in neighbours:
            assert space.validate(neighbour) == neighbour
            changed.append(next(new for new in neighbour.choices if new not in architecture.choices))
        assert changed == expected

    def test_canonical_is_idempotent_and_the_same_size(
        self, space: SearchSpace, architectures: list[Architecture]
    ) -> None:
        for architecture in architectures:
            canonical = space.canonical(architecture)
            assert space.canonical(canonical) == canonical
            assert count_params(space.network(canonical)) == count_params(space.network(architecture))

    def test_every_option_has_a_meaning_of_its_own(self, space: SearchSpace) -> None:
        for decision in space.decisions:
            meanings = [space.meaning(option) for option in decision.options]
            assert len(set(meanings)) == len(meanings), f"two options of {decision.name} have one meaning"
            for option, meaning in zip(decision.options, meanings, strict=True):
                assert meaning.isprintable()
                assert meaning.strip() == meaning != ""
                plain_word = re.fullmatch(r"[a-z]+|[-+]?[\d.]+", option)
                assert plain_word or meaning != option, f"{option!r} of {decision.name} is not explained"
        assert space.meaning("no such option") == "no such option"

    # -- networks -----------------------------------------------------------------------------------------------

    def test_networks_give_logits_and_train(self, space: SearchSpace, architectures: list[Architecture]) -> None:
        for architecture in architectures:
            network = space.network(architecture)
            logits = network(_inputs(space, 4))
            assert _fits(logits, space, 4, space.num_classes)
            logits.sum().backward()
            without = [name for name, p in network.named_parameters() if p.grad is None]
            assert not (without and self.every_weight_trains), f"parameters without gradient: {without}"

    def test_input_shape_and_num_classes_are_enough(self, space: SearchSpace) -> None:
        make: Any = type(space)
        if "input_shape" not in inspect.signature(make).parameters:
            pytest.skip(f"{make.__name__} has one size")
        shape = (1, 8, 8) if space.input_dtype.is_floating_point else (5,)
        small = make(input_shape=shape, num_classes=7)
        assert small.input_shape == shape
        network = small.network(small.sample(torch.Generator().manual_seed(9)))
        assert _fits(network(_inputs(small, 2)), small, 2, 7)

    def test_networks_take_another_number_of_classes(
        self, space: SearchSpace, architectures: list[Architecture]
    ) -> None:
        network = space.network(architectures[0], num_classes=space.num_classes + 3).eval()
        assert _fits(network(_inputs(space, 1)), space, 1, space.num_classes + 3)
        with pytest.raises(InputError, match="num_classes: got 0; legal: "):
            space.network(architectures[0], num_classes=0)

    def test_the_evaluation_space_has_the_same_architectures(
        self, space: SearchSpace, architectures: list[Architecture]
    ) -> None:
        evaluation = space.evaluation()
        assert (evaluation.name, evaluation.decisions) == (space.name, space.decisions)
        assert evaluation.evaluation().digest == evaluation.digest
        with torch.device("meta"):
            logits = evaluation.network(architectures[0])(_inputs(space, 2).to("meta"))
        assert _fits(logits, space, 2, space.num_classes)

    def test_the_graph_is_acyclic_connected_and_labelled(
        self, space: SearchSpace, architectures: list[Architecture]
    ) -> None:
        for architecture in architectures:
            graph = space.graph(architecture)
            assert nx.is_directed_acyclic_graph(graph)
            assert nx.is_weakly_connected(graph)
            assert all("label" in data for _, data in graph.nodes(data=True))

    def test_cell_graphs_show_every_chosen_operation(self, space: SearchSpace) -> None:
        generator = torch.Generator().manual_seed(8)
        drawn = {a: space.cell_graphs(a) for a in (space.sample(generator) for _ in range(self.draws))}
        said = {a: Counter(o for cell in cells.values() for *_, o in cell.edges(data="label") if o)
                for a, cells in drawn.items()}  # fmt: skip
        operations = {operation for counted in said.values() for operation in counted}
        for architecture, cells in drawn.items():
            parts = [part for option in architecture.options for part in option.split("+")]  # a+b: both on one edge
            assert said[architecture] == Counter(part for part in parts if part in operations)
            for cell in cells.values():
                assert nx.is_directed_acyclic_graph(cell)
                assert all(label for _, label in cell.nodes(data="label"))
        for decision in space.decisions:  # of one decision, either all options are operations or none is
            named = {part for option in decision.options for part in option.split("+")} - {"none"}
            assert named <= operations or not named & operations

    # -- cost ---------------------------------------------------------------------------------------------------

    def test_costs_add_up_to_the_whole_network(self, space: SearchSpace, architectures: list[Architecture]) -> None:
        table = Macs()(space)
        for architecture in architectures:
            whole = count_macs(space.network(architecture), space.input_shape, space.input_dtype)
            assert space.cost(architecture, table) == whole

    def test_a_missing_operation_is_named(self, space: SearchSpace, architectures: list[Architecture]) -> None:
        key = space.cost_keys(architectures[0])[0]
        table = {name: 1.0 for name in space.operations() if name != key}
        with pytest.raises(LatencyTableError) as caught:
            space.cost(architectures[0], table)
        assert repr(key) in str(caught.value)

    def test_the_digest_is_stable_text(self, space: SearchSpace) -> None:
        assert json.dumps(space.digest).strip('"') == space.digest
        assert len(space.digest) == 16

    # -- weight sharing -----------------------------------------------------------------------------------------

    @pytest.fixture
    def shared(self, space: SearchSpace) -> WeightSharingSpace:
        """The space, if it has a supernet."""
        if not isinstance(space, WeightSharingSpace):
            pytest.skip(f"{space.name} has no supernet")
        return space

    @pytest.fixture
    def covering(self, space: SearchSpace) -> list[Architecture]:
        """Drawn architectures in which every option of every group of options occurs."""
        generator = torch.Generator().manual_seed(7)
        missing = {option for decision in space.decisions for option in decision.options}
        kept = []
        for _ in range(self.draws):
            drawn = space.sample(generator)
            if missing & set(drawn.options):
                kept.append(drawn)
                missing -= set(drawn.options)
        return kept

    def test_deriving_gates_that_favour_an_architecture_gives_it_back(
        self, shared: WeightSharingSpace, covering: list[Architecture]
    ) -> None:
        for architecture in covering:
            chosen = shared.gates(architecture).values
            for share in (0.0, 0.2):
                favoured = {group: (1 - share) * rows + share / rows.shape[1] for group, rows in chosen.items()}
                assert shared.derive(favoured) == shared.canonical(architecture)

    def test_derive_above_gives_a_network_of_the_wider_space(
        self, shared: WeightSharingSpace, architectures: list[Architecture]
    ) -> None:
        wider = shared.wider()
        for architecture in architectures:
            above = shared.derive_above(shared.gates(architecture).values, 0.5)
            with torch.device("meta"):
                sizes = [count_params(s.network(a)) for s, a in ((wider, above), (shared.evaluation(), architecture))]
            assert sizes[0] == sizes[1]

    def test_gates_have_the_declared_shapes_and_options(
        self, shared: WeightSharingSpace, architectures: list[Architecture]
    ) -> None:
        gates = shared.gates(architectures[0])
        assert {group: tuple(matrix.shape) for group, matrix in gates.values.items()} == shared.gate_shapes
        assert {group: len(names) for group, names in shared.gate_options.items()} == {
            group: options for group, (_, options) in shared.gate_shapes.items()
        }
        for group, rows in gates.active.items():
            assert len(rows) == shared.gate_shapes[group][0]

    @pytest.mark.parametrize("training", [True, False])
    def test_the_supernet_under_one_hot_gates_equals_the_extracted_network(
        self, shared: WeightSharingSpace, covering: list[Architecture], training: bool
    ) -> None:
        supernet = shared.supernet().double()
        _unsettle(supernet)
        x = _double(_inputs(shared, 4))
        for architecture in covering:
            network = shared.extract(supernet, architecture).train(training)
            with seeded(0, "random operations"):
                alone = network(x)
            with seeded(0, "random operations"):
                mixed = supernet.train(training)(x, shared.gates(architecture))
            torch.testing.assert_close(alone, mixed, rtol=1e-10, atol=1e-12)

    def test_extracting_copies_and_has_the_structure_of_a_fresh_network(
        self, shared: WeightSharingSpace, architectures: list[Architecture]
    ) -> None:
        supernet = shared.supernet()
        for architecture in architectures:
            extracted, fresh = shared.extract(supernet, architecture), shared.network(architecture)
            shapes = [{name: tuple(v.shape) for name, v in n.state_dict().items()} for n in (extracted, fresh)]
            assert shapes[0] == shapes[1]
            before = [p.detach().clone() for p in supernet.parameters()]
            with torch.no_grad():
                for parameter in extracted.parameters():
                    parameter.zero_()
            assert all(torch.equal(a, b) for a, b in zip(before, supernet.parameters(), strict=True))

    def test_the_cost_of_one_hot_gates_is_the_cost_of_the_architecture(
        self, shared: WeightSharingSpace, covering: list[Architecture]
    ) -> None:
        table = {key: float(i + 1) for i, key in enumerate(shared.operations())}
        fixed, matrices = shared.cost_matrices(table)
        for architecture in covering:
            gates = shared.gates(architecture).values
            total = fixed + sum(float((gates[group] * matrix).sum()) for group, matrix in matrices.items())
            drawn = [joint.keys for joint in shared.joint_keys() if joint.runs(shared.gates(architecture))]
            total += sum(table[key] for keys in drawn for key in keys)
            assert total == pytest.approx(shared.cost(architecture, table), rel=1e-12)
            assert float(ExpectedCost(shared, table)(Gates.soft(gates))) == pytest.approx(total, rel=1e-5)

    def test_parts_make_architectures_whose_costs_add_up(self, shared: WeightSharingSpace) -> None:
        table = {key: float(i + 1) for i, key in enumerate(shared.operations())}
        parts, generator = shared.parts(), torch.Generator().manual_seed(3)
        fixed, matrices = shared.cost_matrices(table)
        for _ in range(10):
            taken = [gate for part in parts for gate in part[int(torch.randint(len(part), (), generator=generator))]]
            values = {group: torch.zeros(shape) for group, shape in shared.gate_shapes.items()}
            for group, choice, option in taken:
                values[group][choice, option] = 1.0
            architecture = shared.derive(values)
            gates = shared.gates(architecture)
            assert all(gates.values[group][choice, option] == 1 for group, choice, option in taken)
            joint = sum(table[key] for one in shared.joint_keys() if one.runs(gates) for key in one.keys)
            total = fixed + joint + sum(float(matrices[group][choice, option]) for group, choice, option in taken)
            assert total == pytest.approx(shared.cost(architecture, table), rel=1e-12)

    def test_options_that_are_not_active_are_not_computed(
        self, shared: WeightSharingSpace, architectures: list[Architecture]
    ) -> None:
        x = _inputs(shared, 4)
        soft = {group: torch.full(shape, 1 / shape[1]) for group, shape in shared.gate_shapes.items()}
        for architecture in architectures:
            supernet = shared.supernet()
            network, gates = shared.extract(supernet, architecture), shared.gates(architecture)
            network(x).sum().backward()
            supernet(x, gates).sum().backward()
            reached = [sum(p.grad is not None for p in module.parameters()) for module in (network, supernet)]
            assert reached[0] == reached[1], "the supernet computed options that are not active"
            supernet.eval()
            only = {group: rows * soft[group] for group, rows in gates.values.items()}
            with torch.no_grad():
                torch.testing.assert_close(supernet(x, Gates(soft, gates.active)), supernet(x, Gates.soft(only)))

    def test_the_cost_keys_of_an_option_begin_with_its_name(self, shared: WeightSharingSpace) -> None:
        for group, rows in shared.gate_keys()[1].items():
            for row in rows:
                for option, keys in zip(shared.gate_options[group], row, strict=True):
                    assert [key.split()[0] for key in keys] == [option] * len(keys)

    def test_the_supernet_uses_the_mix_that_is_passed(self, shared: WeightSharingSpace) -> None:
        if not shared.mixes:
            with pytest.raises(InputError, match=shared.name):
                shared.supernet(plain)
            return
        made: list[MixedOp] = []

        def mix(choice: Choice) -> MixedOp:
            assert choice.options in shared.gate_options.values()
            made.append(plain(choice))
            return made[-1]

        supernet = shared.supernet(mix).double().eval()
        own = shared.supernet().double().eval()
        own.load_state_dict(supernet.state_dict())
        x, gates = _double(_inputs(shared, 2)), _uniform(shared)
        torch.testing.assert_close(supernet(x, gates), own(x, gates), rtol=1e-9, atol=1e-11)
        assert {id(m) for m in supernet.modules() if isinstance(m, MixedOp)} == {id(m) for m in made}

    def test_each_choice_leads_to_a_node(self, shared: WeightSharingSpace) -> None:
        for group, (choices, _) in shared.gate_shapes.items():
            nodes = shared.nodes(group)
            assert len(nodes) == choices
            assert list(nodes) == sorted(nodes)

    def test_soft_gates_reach_every_weight_and_every_gate(self, shared: WeightSharingSpace) -> None:
        supernet = shared.supernet()
        values = {
            group: torch.full(shape, 1 / shape[1], requires_grad=True) for group, shape in shared.gate_shapes.items()
        }
        supernet(_inputs(shared, 4), Gates.soft(values)).square().sum().backward()
        assert all(p.grad is not None for p in supernet.parameters())
        assert all(v.grad is not None and bool((v.grad != 0).any(-1).all()) for v in values.values())


def _inputs(space: SearchSpace, count: int) -> torch.Tensor:
    return space.example(count, torch.Generator().manual_seed(5))


def _fits(logits: torch.Tensor, space: SearchSpace, count: int, classes: int) -> bool:
    """Whether logits have the shape of the space: one row an image, or one a word or pixel."""
    if space.pixelwise:
        return logits.ndim == 4 and logits.shape[:2] == (count, classes)
    return logits.shape == (
        (count, classes) if space.input_dtype.is_floating_point else (count, *space.input_shape, classes)
    )


def _double(x: torch.Tensor) -> torch.Tensor:
    return x.double() if x.is_floating_point() else x


def _uniform(space: WeightSharingSpace) -> Gates:
    return Gates.soft({group: torch.full(s, 1 / s[1]).double() for group, s in space.gate_shapes.items()})


def _unsettle(network: nn.Module) -> None:
    """Give batch norms weights and statistics that differ from fresh ones."""
    generator = torch.Generator().manual_seed(6)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            for name, value in module.state_dict().items():  # those that are not affine have no weight and bias
                if name in ("weight", "running_var"):
                    value.uniform_(0.5, 1.5, generator=generator)
                elif name in ("bias", "running_mean"):
                    value.normal_(std=0.3, generator=generator)
