"""NASNet's space, and any cell in its network."""

import itertools
import math

import pytest
import torch
from torch import nn

from lightning_nas import zoo
from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError, InvalidArchitecture
from lightning_nas.latency.macs import count_params
from lightning_nas.ops.cells import DropPath
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.nasnet.any_cell import NASNetCellSpace
from lightning_nas.spaces.nasnet.form import NASNetForm
from lightning_nas.spaces.nasnet.operations import AMOEBANET, NASNET
from lightning_nas.spaces.nasnet.space import NASNetSpace
from lightning_nas.testing.spaces import SpaceCase

SIZES = {"image_size": 8, "in_channels": 1, "num_classes": 3, "cells": 1, "filters": 4, "blocks": 2}


def small(**options: object) -> NASNetSpace:
    return NASNetSpace(**SIZES | {"evaluation": (2, 6)} | options)  # type: ignore[arg-type]


class TestNasnet(SpaceCase):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return small()


class TestNasnetOnImageNet(SpaceCase):
    @pytest.fixture
    def space(self) -> SearchSpace:
        options = {"image_size": 65, "filters": 10, "stem": "imagenet", "stem_multiplier": 1, "evaluation": None}
        return small(**options, operations=["skip_connect", "conv_1x3_3x1"], pass_reduction=True)


class TestNasnetCell(SpaceCase):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return NASNetCellSpace(**SIZES | {"operations": ["skip_connect", "narrow_1x7_7x1", "max_pool_3x3"]})


def test_the_controller_takes_the_papers_decisions_in_its_order() -> None:
    space = NASNetSpace()
    names = [decision.name for decision in space.decisions]
    assert len(names) == 2 * 5 * 5
    assert [name.partition("_")[0] for name in names] == ["normal"] * 25 + ["reduce"] * 25
    assert names[5:10] == [f"normal_3_{what}" for what in ("input_1", "input_2", "op_1", "op_2", "join")]
    assert space.decisions[5] == Decision(
        "normal_3_input_1", ("s0", "s1", "s2"), "normal_3", ("normal_0", "normal_1", "normal_2")
    )
    assert [len(decision.options) for decision in space.decisions[20:25]] == [6, 6, 13, 13, 2]


def test_amoebanets_space_has_8_operations_and_always_adds() -> None:
    space = NASNetSpace("amoebanet", operations=AMOEBANET, joins=["add"])
    assert {len(d.options) for d in space.decisions if "_op_" in d.name} == {8}
    assert math.prod(len(d.options) for d in space.decisions) == ((2 * 3 * 4 * 5 * 6) ** 2 * 8**10) ** 2


def test_a_mutation_of_amoebanet_changes_one_input_or_one_operation() -> None:
    space, generator = small(joins=["add"], blocks=5), torch.Generator().manual_seed(0)
    parent, seen = space.sample(generator), set()
    for _ in range(200):
        child = space.mutate(parent, generator)
        [(changed, _)] = [pair for pair in child.choices if pair not in parent.choices]
        seen.add(changed)
    assert seen == {decision.name for decision in space.decisions}


def swapped(space: NASNetSpace, architecture: Architecture, generator: torch.Generator) -> Architecture:
    """The same network, blocks and their halves in another order."""
    made = {}
    for kind, genotype in space.genotypes(architecture).items():
        blocks = len(genotype.nodes)
        orders = [
            order
            for order in itertools.permutations(range(blocks))
            if all(s < 2 or order.index(s - 2) < order.index(i) for i in order for _, s in genotype.nodes[i])
        ]
        order = orders[int(torch.randint(len(orders), (), generator=generator))]
        new = {0: 0, 1: 1} | {old + 2: place for place, old in enumerate(order, start=2)}
        nodes = tuple(tuple((o, new[s]) for o, s in reversed(genotype.nodes[old])) for old in order)
        joins = tuple(genotype.joins[old] for old in order)
        made[kind] = type(genotype)(nodes, tuple(sorted(new[s] for s in genotype.concat)), joins)
    return space.architecture(made)


@pytest.mark.parametrize("made", [NASNetSpace, NASNetCellSpace])
def test_orders_of_blocks_and_of_their_halves_have_one_canonical_form(made: type[NASNetSpace]) -> None:
    space, generator = made(operations=["conv_1x1", "conv_3x3"]), torch.Generator().manual_seed(0)
    different = 0
    for _ in range(25):
        architecture = space.sample(generator)
        other = swapped(space, architecture, generator)
        assert space.canonical(other) == space.canonical(architecture)
        assert space.canonical(space.mutate(space.canonical(architecture), generator))
        different += other != architecture
    assert different > 20


def test_canonical_forms_of_one_block_are_as_many_as_there_are_cells() -> None:
    space = NASNetSpace(blocks=1, operations=["conv_1x1", "conv_3x3", "max_pool_3x3"])
    legal = itertools.product(*(decision.options for decision in space.decisions[:5]))
    reduce = {d.name: d.options[0] for d in space.decisions[5:]}
    names = [decision.name for decision in space.decisions[:5]]
    forms = {space.canonical(space.validate(dict(zip(names, one, strict=True)) | reduce)) for one in legal}
    assert len(forms) == 2 * (6 * 7 // 2)  # pairs of 2 inputs x 3 operations, added or side by side


def test_a_canonical_form_computes_the_same() -> None:
    space = small(joins=["add"], operations=["avg_pool_3x3", "max_pool_3x3", "skip_connect"], filters=6)
    generator = torch.Generator().manual_seed(3)
    x = space.example(2, generator).double()
    for _ in range(4):
        architecture = space.sample(generator)
        outputs = []
        for one in (architecture, space.canonical(architecture)):
            network = space.network(one).double().eval()
            with torch.no_grad():
                for parameter in network.parameters():  # alike for all channels, so that their order tells nothing
                    parameter.fill_(0.1 if parameter.dim() > 1 else 0.5)
            outputs.append(network(x))
        torch.testing.assert_close(*outputs)


def test_reductions_stand_before_the_second_and_third_stack() -> None:
    for cells, stem, golden in ((6, "cifar", (6, 13)), (6, "imagenet", (8, 15)), (4, "imagenet", (6, 11))):
        form = NASNetForm(224, 3, 10, cells, 32, stem, 1, 0.0)  # type: ignore[arg-type]
        assert form.reductions == golden
        assert len(form.places({"normal": 1, "reduce": 1})) == 3 * cells + 2 + 2 * (stem == "imagenet")


def shapes(name: str, classes: int = 10) -> list[tuple[int, ...]]:
    """Output of stem and cells."""
    space = zoo.space(name, classes)
    found: list[tuple[int, ...]] = []
    with torch.device("meta"):
        network = space.network(zoo.load(name)).eval()
        for part in (network.stem, *network.cells):
            part.register_forward_hook(lambda _, __, y: found.append(tuple(y.shape[1:])))
        network(torch.zeros(1, *space.input_shape))
    return found


def test_tensors_have_the_shapes_of_the_authors_tests() -> None:
    cifar = [(96, 32, 32), *[(192, 32, 32)] * 6, (256, 16, 16), *[(384, 16, 16)] * 6, (512, 8, 8), *[(768, 8, 8)] * 6]
    assert shapes("nasnet_a_cifar") == cifar
    mobile = [*[(264, 28, 28)] * 4, (352, 14, 14), *[(528, 14, 14)] * 4, (704, 7, 7), *[(1056, 7, 7)] * 4]
    assert shapes("nasnet_a_mobile")[2:] == [(88, 28, 28), *mobile]
    large = [*[(1008, 42, 42)] * 6, (1344, 21, 21), *[(2016, 21, 21)] * 6, (2688, 11, 11), *[(4032, 11, 11)] * 6]
    assert shapes("nasnet_a_large")[2:] == [(336, 42, 42), *large]


def test_paths_are_dropped_the_more_the_deeper_and_never_identities() -> None:
    network = small(cells=6, operations=["skip_connect"]).network(
        small(cells=6, operations=["skip_connect"]).sample(torch.Generator().manual_seed(0))
    )
    drops = [module for module in network.modules() if isinstance(module, DropPath)]
    assert [drop.share for drop in drops] == pytest.approx([(cell + 1) / 20 for cell in range(20)])
    called: list[int] = []
    for drop in drops:
        drop.register_forward_hook(lambda *_: called.append(1))
    network(torch.zeros(2, 1, 8, 8))
    assert not called


@pytest.mark.parametrize("passed", [False, True])
def test_the_cell_after_a_reduction_sees_what_the_reduction_saw_if_told_so(passed: bool) -> None:
    space = small(cells=2, pass_reduction=passed, joins=["add"])
    network = space.network(space.sample(torch.Generator().manual_seed(1))).eval()
    ran: list[tuple[tuple[torch.Tensor, ...], torch.Tensor]] = []
    for cell in network.cells:
        cell.register_forward_hook(lambda _, given, y: ran.append((given, y)))
    network(torch.zeros(1, 1, 8, 8))
    for reduction in space.form.reductions:
        before, last = ran[reduction + 1][0]
        assert before is ran[reduction - (2 if passed else 1)][1]
        assert last is ran[reduction][1]


def test_blocks_that_concatenate_are_twice_as_wide() -> None:
    space = small()
    choices = dict(space.sample(torch.Generator().manual_seed(0)).choices)
    blocks = {"normal_2_input_1": "s0", "normal_2_input_2": "s1", "normal_3_input_1": "s0", "normal_3_input_2": "s1"}
    widths = {}
    for joins in itertools.product(("add", "concat"), repeat=2):
        chosen = choices | blocks | {"normal_2_join": joins[0], "normal_3_join": joins[1]}
        widths[joins] = space.genotypes(space.validate(chosen))["normal"].widths
    assert widths == {("add", "add"): 2, ("add", "concat"): 3, ("concat", "add"): 3, ("concat", "concat"): 4}


def test_sizes_are_named_by_cells_of_a_stack_and_channels_of_the_last() -> None:
    names = {"nasnet_a_cifar": "6 @ 768", "nasnet_a_mobile": "4 @ 1056", "nasnet_a_large": "6 @ 4032"}
    for name, size in names.items():
        space = zoo.space(name)
        assert isinstance(space, NASNetSpace)
        assert space.size(zoo.load(name)) == size


def test_a_cells_output_has_all_that_no_block_takes() -> None:
    space = NASNetCellSpace(**SIZES)
    choices = dict(space.sample(torch.Generator().manual_seed(0)).choices)
    choices |= {f"normal_{i}_input_{slot}": "s1" for i in (2, 3) for slot in (1, 2)}
    with pytest.raises(InvalidArchitecture, match=r"normal_concat cannot be '2,3'; legal: 0,2,3, 0,1,2,3"):
        space.validate(choices | {"normal_concat": "2,3"})


def test_a_narrow_nasnet_a_large_computes_what_timms_does() -> None:
    models = pytest.importorskip("timm.models.nasnet")
    theirs = models.NASNetALarge(num_classes=7, num_features=16 * 24, pad_type="").double()
    sizes = {"image_size": 67, "stem": "imagenet", "filters": 16, "cells": 6, "pass_reduction": True, "joins": ["add"]}
    ours = NASNetCellSpace(num_classes=7, **sizes).network(zoo.load("nasnet_a_large")).double()
    ran: list[nn.Module] = []
    for leaf in (m for m in theirs.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)):
        leaf.register_forward_pre_hook(lambda module, _: ran.append(module))
    x = torch.rand(2, 3, 67, 67, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(x)  # in training: batch norms by the batch
        # parts in the order in which theirs run: they look at the second stem cell's inputs the other way round
        parts = [ours.stem]
        for number, cell in enumerate(ours.cells):
            parts += [*(reversed(cell.calibrate) if number == 1 else cell.calibrate), cell.operations]
        modules = (module for part in (*parts, ours.head) for module in part.modules())
        places = [parameter for module in modules for parameter in module.parameters(recurse=False)]
        values = [parameter for module in ran for parameter in module.parameters(recurse=False)]
        for place, value in zip(places, values, strict=True):
            place.copy_(value)
        torch.testing.assert_close(ours(x), expected)


def test_sizes_that_cannot_be_are_refused() -> None:
    for options, words in (
        ({"image_size": 7}, "stem=cifar need images of at least 8 pixels, got 7"),
        ({"image_size": 63, "stem": "imagenet", "filters": 8}, "stem=imagenet need images of at least 64"),
        ({"cells": 0}, "cells: got 0; legal: int >= 1 and <= 200"),
        ({"filters": 1}, "at least 2 filters, got 1"),
        ({"blocks": 0}, "blocks: got 0; legal: int >= 1"),
        ({"operations": []}, "need operations, got none; legal: skip_connect"),
        ({"operations": ["conv_9x9"]}, "no operation 'conv_9x9'; legal: skip_connect"),
        ({"joins": ["multiply"]}, r"add or concat, got joins=\['multiply'\]"),
    ):
        with pytest.raises(InputError, match=words):
            small(**options)


@pytest.mark.parametrize(("stem", "least"), [("cifar", 9), ("imagenet", 67)])
def test_the_auxiliary_classifier_needs_images_for_its_pool(stem: str, least: int) -> None:
    spaces = [small(image_size=size, stem=stem, filters=8, joins=["add"]) for size in (least - 1, least)]
    architecture = spaces[0].sample(torch.Generator().manual_seed(0))
    with torch.device("meta"):
        logits, auxiliary = spaces[1].network(architecture, auxiliary=True)(torch.zeros(2, 1, least, least))
        assert logits.shape == auxiliary.shape == (2, 3)
        with pytest.raises(InputError, match=f"at least {least} pixels, got {least - 1}"):
            spaces[0].network(architecture, auxiliary=True)


def test_the_auxiliary_classifier_sees_the_cell_before_the_last_reduction() -> None:
    space = small(image_size=9)
    network = space.network(space.sample(torch.Generator().manual_seed(0)), auxiliary=True)
    assert network.seen == space.form.reductions[1] - 1
    logits, auxiliary = network(torch.zeros(2, 1, 9, 9))
    assert logits.shape == auxiliary.shape == (2, 3)
    assert network.eval()(torch.zeros(2, 1, 9, 9)).shape == (2, 3)
    assert network.auxiliary is not None
    assert count_params(network.auxiliary) > 0
    assert len(NASNET) == 13
