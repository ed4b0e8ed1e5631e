import itertools

import networkx as nx
import pytest
import torch

from lightning_nas.errors import InvalidArchitecture
from lightning_nas.spaces.block_qnn.code import LayerCode, checked, density, legal_codes, loose, parsed, written
from lightning_nas.spaces.block_qnn.space import BlockQNNSpace

T = 23


@pytest.mark.parametrize(
    ("code", "legal"),
    [
        ("(1,1,5,0,0)", True),
        ("(1,1,2,0,0)", False),
        ("(1,5,0,0,0)", False),
        ("(2,5,0,0,1)", True),
        ("(3,6,0,1,1)", False),
        ("(2,2,1,1,0)", True),
        ("(1,7,0,0,0)", False),
        ("(2,7,0,0,0)", True),
        ("(3,3,5,0,0)", False),
        ("(2,4,0,2,0)", False),
    ],
)
def test_a_code_is_legal_or_not_as_the_paper_has_it(code: str, legal: bool) -> None:
    [layer] = parsed(code)
    assert (layer in legal_codes(layer.layer, T)) is legal
    before = parsed("(1,1,1,0,0) (2,1,1,0,0)")[: layer.layer - 1]
    after = () if layer.kind == "terminal" else (LayerCode(layer.layer + 1, 7, 0, 0, 0),)
    if legal:
        assert checked((*before, layer, *after), T)[layer.layer - 1] == layer
    else:
        with pytest.raises(InvalidArchitecture, match="layer"):
            checked((*before, layer, *after), T)


def test_there_are_as_many_codes_as_an_enumeration_by_hand_finds() -> None:
    assert [len(legal_codes(i, T)) for i in (1, 2, 3, 4)] == [8, 21, 37, 57]
    assert legal_codes(T, T) == (LayerCode(T, 7, 0, 0, 0),)
    kernels = {1: (1, 3, 5), 2: (1, 3), 3: (1, 3)}
    for index in (1, 2, 5):
        found = set()
        for code in itertools.product([index], range(1, 8), range(6), range(index + 1), range(index + 1)):
            _, kind, kernel, a, b = code
            joins = kind in (5, 6)
            if kernel not in kernels.get(kind, (0,)) or max(a, b) >= index or (joins and a == b):
                continue
            if (not joins and b) or (kind == 7 and (a or index == 1)):
                continue
            found.add(code)
        assert found == set(map(tuple, legal_codes(index, T)))


def test_codes_survive_a_round_trip_through_text_and_through_architectures() -> None:
    space, generator = BlockQNNSpace(layers=9), torch.Generator().manual_seed(0)
    for _ in range(200):
        architecture = space.sample(generator)
        codes = space.codes(architecture)
        assert parsed(written(codes)) == codes
        assert space.of_codes(codes) == architecture
        assert all(code in space.actions(code.layer) for code in codes)


def test_any_walk_through_the_actions_is_an_architecture() -> None:
    space, generator = BlockQNNSpace(layers=5), torch.Generator().manual_seed(0)
    for _ in range(200):
        codes = list[LayerCode]()
        while not codes or codes[-1].kind != "terminal":
            actions = space.actions(len(codes) + 1)
            codes.append(actions[int(torch.randint(len(actions), (), generator=generator))])
        assert space.codes(space.of_codes(codes)) == tuple(codes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(1,8,0,0,0)", "a layer code is"),
        ("1,1,1,0,0", "a layer code is"),
        ("(1,1,1,0,0)", "ends with its terminal"),
        ("(1,1,1,0,0) (2,7,0,0,0) (3,7,0,0,0)", "ends with its terminal"),
        ("(2,1,1,0,0)", "layer 1"),
        ("", "one layer and its terminal"),
        ("(1,1,1,0,0) " + "(2,1,1,0,0) (3,1,1,0,0) (4,1,1,0,0)", "layer 4 of a block of up to 4"),
    ],
)
def test_what_is_no_block_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidArchitecture, match=words):
        BlockQNNSpace(layers=4).of_codes(parsed(text))


def test_density_and_loose_ends_are_those_of_the_graph() -> None:
    space, generator = BlockQNNSpace(layers=8), torch.Generator().manual_seed(1)
    for _ in range(50):
        codes = space.codes(space.sample(generator))
        graph: nx.DiGraph[int] = nx.DiGraph()
        for index, kind, _, a, b in codes[:-1]:
            graph.add_edges_from((p, index) for p in ((a, b) if kind in (5, 6) else (a,)))
        assert density(codes) == graph.number_of_edges() / graph.number_of_nodes()
        assert list(loose(codes)) == sorted(node for node, degree in graph.out_degree if not degree)
