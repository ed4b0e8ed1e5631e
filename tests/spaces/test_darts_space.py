import itertools
import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from lightning_nas import zoo
from lightning_nas.cli.command import conf_dir
from lightning_nas.errors import InputError, InvalidArchitecture
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.latency.sources import Macs
from lightning_nas.ops.cells import OPTIONS
from lightning_nas.spaces.cells.genotype import KINDS, Genotype
from lightning_nas.spaces.darts.any_cell import DARTSCellSpace
from lightning_nas.spaces.darts.networks import Cell, CellShape
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.testing.spaces import SpaceCase


class TestDartsSmall(SpaceCase):
    @pytest.fixture
    def space(self) -> DARTSSpace:
        return DARTSSpace(image_size=8, in_channels=1, num_classes=3, cells=3, channels=2)


class TestDartsImageNetForm(SpaceCase):
    @pytest.fixture
    def space(self) -> DARTSSpace:
        sizes = {"image_size": 36, "in_channels": 1, "num_classes": 3, "cells": 3, "channels": 2}
        return DARTSSpace(**sizes, stem="imagenet", affine=True, pool_norm=True)


class TestS2(SpaceCase):
    @pytest.fixture
    def space(self) -> DARTSSpace:
        return _robust("skip_connect", "sep_conv_3x3")


class TestS3(SpaceCase):
    @pytest.fixture
    def space(self) -> DARTSSpace:
        return _robust("none", "skip_connect", "sep_conv_3x3")


def _robust(*operations: str) -> DARTSSpace:
    """A space of R-DARTS in small."""
    sizes = {"image_size": 8, "in_channels": 1, "num_classes": 3, "cells": 3, "channels": 2}
    return DARTSSpace("robust", **sizes, operations=operations)


class TestDartsCell(SpaceCase):
    every_weight_trains = False  # nodes may lead nowhere

    @pytest.fixture
    def space(self) -> DARTSCellSpace:
        return DARTSCellSpace(
            image_size=8,
            in_channels=1,
            num_classes=3,
            cells=3,
            channels=2,
            nodes=2,
            operations=["skip_connect", "sep_conv_7x7", "conv_7x1_1x7"],
        )


def test_the_paper_counts_as_many_cells() -> None:
    of_a_kind = [d for d in DARTSSpace().decisions if d.name.startswith("normal")]
    assert math.prod(len(d.options) for d in of_a_kind) == 1_037_664_180


def test_the_papers_search_network_has_the_published_size() -> None:
    space = DARTSSpace()
    with torch.device("meta"):
        assert count_params(space.supernet()) == 1_930_618
    fixed, matrices = space.cost_matrices(Macs()(space))
    assert fixed + sum(float(matrix.sum()) for matrix in matrices.values()) == 300_255_744


def test_the_evaluation_network_has_the_published_size_in_both_sizes(v2: dict[str, str]) -> None:
    small, large = DARTSSpace(evaluation=(8, 16)).evaluation(), DARTSSpace().evaluation()
    with torch.device("meta"):
        networks = [space.network(space.validate(v2)) for space in (small, large)]
    assert [count_params(network) for network in networks] == [246_106, 3_349_342]
    assert count_macs(networks[0], (3, 32, 32)) == 43_444_736
    assert large.evaluation() is large


def test_batch_norms_of_pools_stay_where_they_are_wanted() -> None:
    cell = zoo.load("mdenas_cifar")
    with torch.device("meta"):
        sizes = [count_params(DARTSSpace(pool_norm=p).evaluation().network(cell)) for p in (False, True)]
    assert sizes == [3_783_286, 3_786_742]


def test_edges_stand_in_the_papers_order(v2: dict[str, str]) -> None:
    space = DARTSSpace()
    assert space.nodes("normal") == (0,) * 2 + (1,) * 3 + (2,) * 4 + (3,) * 5
    sep, skip, dil = (OPTIONS.index(option) for option in ("sep_conv_3x3", "skip_connect", "dil_conv_3x3"))
    chosen = space.gates(space.validate(v2)).values["normal"].argmax(1).tolist()
    # node 2: edges 0, 1; node 3: 2 to 4; node 4: 5 to 8; node 5: 9 to 13
    assert chosen == [sep, sep, sep, sep, 0, skip, sep, 0, 0, skip, 0, dil, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_derived_cells_are_the_best_of_all_pairs_of_edges_and_operations(seed: int) -> None:
    space = DARTSSpace()
    logits = torch.randn(2, 14, 8, generator=torch.Generator().manual_seed(seed))
    logits[:, :, 0] += 3  # "none" is the most probable nearly everywhere, and never chosen
    probabilities = dict(zip(("normal", "reduce"), logits.softmax(-1), strict=True))
    derived = space.genotypes(space.derive(probabilities))
    for kind, rows in probabilities.items():
        first = 0
        for node, count in enumerate((2, 3, 4, 5)):
            inputs = [[(rows[first + s, o].item(), OPTIONS[o], s) for o in range(1, 8)] for s in range(count)]
            pairs = (p for two in itertools.combinations(inputs, 2) for p in itertools.product(*two))
            best = max(pairs, key=lambda pair: pair[0][0] + pair[1][0])
            assert derived[kind].nodes[node] == tuple((option, state) for _, option, state in best)
            first += count


def test_a_cell_of_skips_adds_what_its_edges_say() -> None:
    shape = CellShape("normal", 2, ((2, 4), (2, 4)), affine=True)
    skip = "skip_connect"
    nodes = (((skip, 0), (skip, 1)), (), ((skip, 2), (skip, 2), (skip, 1)))
    cell = Cell(shape, Genotype(nodes, concat=(4, 2)))
    cell.preprocess = nn.ModuleList([nn.Identity(), nn.Identity()])
    a, b = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(cell(a, b), torch.cat([2 * a + 3 * b, a + b], 1))


def test_reduction_cells_stand_at_one_and_two_thirds() -> None:
    shapes = DARTSSpace(cells=20, channels=36).form.shapes({"normal": 4, "reduce": 4})
    assert [i for i, shape in enumerate(shapes) if shape.kind == "reduce"] == [6, 13]
    assert [(shapes[i].channels, shapes[i].size) for i in (0, 5, 6, 12, 13, 19)] == [
        *((36, 32), (36, 32), (72, 16), (72, 16), (144, 8), (144, 8))
    ]
    assert [shapes[6].edge(state) for state in range(4)] == [(32, 2), (32, 2), (16, 1), (16, 1)]
    assert [shapes[7].halves(i) for i in (0, 1)] == [True, False]


def test_deeper_networks_have_the_same_choices() -> None:
    space = DARTSSpace(cells=5)
    assert [len(space.deeper(more).form.shapes({"normal": 4, "reduce": 4})) for more in (0, 6, 12)] == [5, 11, 17]
    assert space.deeper(6).decisions == space.decisions
    assert space.deeper(6).evaluation().form == space.evaluation().form


def test_drop_path_spares_identities_alone(v2: dict[str, str]) -> None:
    space = DARTSSpace(image_size=8, cells=3, channels=2, affine=True)
    network, x = space.network(space.validate(v2)), torch.randn(2, 3, 8, 8)
    dropped: list[int] = []
    for cell in network.cells:
        cell.drop_path.register_forward_hook(lambda *_: dropped.append(1))
    network(x)
    # V2's normal cell has two skips, and so has the reduction cell three, on nodes: 8 - 2, 8 - 3, 8 - 3
    assert len(dropped) == 16


def test_sizes_that_cannot_be_are_refused() -> None:
    for options, words in (
        ({"cells": 2}, "at least 3 cells.*cells=2"),
        ({"channels": 5}, "even.*channels=5"),
        ({"image_size": 3}, "at least 4 pixels"),
        ({"image_size": 31, "stem": "imagenet"}, "at least 32 pixels"),
    ):
        with pytest.raises(InputError, match=words):
            DARTSSpace(**options)
    with pytest.raises(InputError, match=r"no operation 'conv'; legal: max_pool_3x3"):
        DARTSCellSpace(operations=["conv"])


def test_a_cell_without_nodes_and_edges_from_missing_nodes_are_refused() -> None:
    space = DARTSCellSpace(nodes=2)
    nothing = {f"normal_{edge}": "none" for edge in ("0_0", "0_1", "1_0", "1_1")}
    with pytest.raises(InvalidArchitecture, match="normal_1_1 cannot be 'none'"):
        space.validate(nothing)
    with pytest.raises(InvalidArchitecture, match="normal_1_2 cannot be 'skip_connect'; legal: none"):
        space.validate(nothing | {"normal_1_1": "skip_connect", "normal_1_2": "skip_connect"})
    with pytest.raises(InvalidArchitecture, match=r"normal_concat cannot be '2,3'; legal: 3$"):
        space.validate(nothing | {"normal_1_1": "skip_connect", "normal_concat": "2,3"})


@pytest.fixture
def v2() -> dict[str, str]:
    """DARTS' second-order cells."""
    sep, skip, dil, pool = "sep_conv_3x3", "skip_connect", "dil_conv_3x3", "max_pool_3x3"
    cells = {
        "normal": [("0,1", sep, sep), ("0,1", sep, sep), ("0,1", skip, sep), ("0,2", skip, dil)],
        "reduce": [("0,1", pool, pool), ("1,2", pool, skip), ("0,2", pool, skip), ("1,2", pool, skip)],
    }
    choices = {}
    for kind, nodes in cells.items():
        for i, (inputs, first, second) in enumerate(nodes):
            choices |= {f"{kind}_{i}_inputs": inputs} if i else {}
            choices |= {f"{kind}_{i}_first": first, f"{kind}_{i}_second": second}
    return choices


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        (["sep_conv_3x3", "noisy"], "'noisy', which DARTS' cells do not have; legal, each once: none, max_pool"),
        (["sep_conv_3x3", "skip_connect", "skip_connect"], "'skip_connect', twice"),
        (["none", "skip_connect"], "nothing to choose"),
    ],
)
def test_operations_that_leave_no_choice_are_refused(operations: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        DARTSSpace(operations=operations)


@pytest.mark.parametrize(("name", "none"), [("darts_s2", False), ("darts_s3", True)])
def test_the_spaces_of_r_darts_are_darts_with_the_other_operations_taken_out(name: str, none: bool) -> None:
    """A mixture of all of DARTS' operations, of which the others weigh nothing, gives the same numbers."""
    config = OmegaConf.load(Path(conf_dir(), "search_space", f"{name}_small.yaml"))
    config.dataset = {"image_size": 8, "channels": 1, "num_classes": 3}
    space = instantiate({k: v for k, v in OmegaConf.to_container(config, resolve=True).items() if k != "dataset"})
    assert space.gate_shapes["reduce"] == (14, 2 + none)
    whole = DARTSSpace(image_size=8, in_channels=1, num_classes=3, cells=3, channels=4)
    small, large = space.supernet().double(), whole.supernet().double()
    missing = small.load_state_dict({k: v for k, v in large.state_dict().items() if k in small.state_dict()})
    assert not missing.missing_keys
    columns = [OPTIONS.index(option) for option in space.gate_options["normal"]]
    generator = torch.Generator().manual_seed(1)
    rows = {kind: torch.randn(14, len(columns), generator=generator).softmax(-1).double() for kind in KINDS}
    wide = {kind: torch.zeros(14, 8).double().index_copy(1, torch.tensor(columns), m) for kind, m in rows.items()}
    x = torch.randn(4, 1, 8, 8, generator=generator).double()
    torch.testing.assert_close(small(x, Gates.soft(rows)), large(x, Gates.soft(wide)), rtol=1e-9, atol=1e-11)
