import pytest
import torch
from torch.nn import functional as F

from lightning_nas.architecture import Decision
from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.spaces.block_qnn.code import parsed
from lightning_nas.spaces.block_qnn.space import BlockQNNSpace
from lightning_nas.testing.spaces import SpaceCase


def small(**options: object) -> BlockQNNSpace:
    sizes = {"image_size": 5, "in_channels": 1, "num_classes": 3, "layers": 4, "blocks": 2, "channels": (2, 4)}
    return BlockQNNSpace("small", **sizes | options)  # type: ignore[arg-type]


class TestBlockQnn(SpaceCase):
    @pytest.fixture
    def space(self) -> BlockQNNSpace:
        return small()


def test_decisions_come_layer_by_layer_and_refer_to_earlier_ones() -> None:
    decisions = {d.name: d for d in small().decisions}
    assert list(decisions)[:3] == ["layer_01_type", "layer_01_kernel", "layer_01_pred1"]
    assert decisions["layer_03_pred2"] == Decision(
        "layer_03_pred2", ("0", "1", "2"), "layer_03", ("input", "layer_01", "layer_02")
    )
    assert decisions["layer_04_type"].options == ("terminal",)
    assert len(BlockQNNSpace().decisions) == 3 + 21 * 4 + 1


def test_nothing_is_decided_after_the_terminal() -> None:
    space = small()
    architecture = space.of_codes(parsed("(1,4,0,0,0) (2,7,0,0,0)"))
    assert dict(architecture.choices) == {
        "layer_01_type": "identity",
        "layer_01_pred1": "0",
        "layer_02_type": "terminal",
    }
    assert all(space.options(d, dict(architecture.choices)) == () for d in space.decisions if "_03_" in d.name)


def test_as_many_architectures_as_there_are_walks_through_the_codes() -> None:
    space = small(layers=3)

    def count(i: int, choices: dict[str, str]) -> int:
        if i == len(space.decisions):
            return 1
        decision = space.decisions[i]
        legal = space.options(decision, choices)
        return sum(count(i + 1, {**choices, decision.name: o}) for o in legal) if legal else count(i + 1, choices)

    assert count(0, {}) == 8 * (1 + 20)


def test_a_block_computes_what_its_code_says() -> None:
    # in the second stage the input has 2 channels: the addition widens it, the concatenation comes back to 4
    codes = parsed("(1,1,5,0,0) (2,2,3,0,0) (3,5,0,1,2) (4,6,0,0,3) (5,3,3,1,0) (6,7,0,0,0)")
    space = small(layers=6, blocks=1, image_size=6)
    block = space.network(space.of_codes(codes)).stages[1][0].eval()
    x = torch.randn(2, 2, 3, 3)
    conv, pooled = block.layers[0](x), F.max_pool2d(x, 3, 1, 1)
    added = conv + block.layers[2](pooled)
    joined = block.layers[3](torch.cat([x, added], 1))
    averaged = F.avg_pool2d(conv, 3, 1, 1, count_include_pad=False)
    expected = block.output(torch.cat([joined, averaged], 1))
    torch.testing.assert_close(block(x), expected)
    assert expected.shape == (2, 4, 3, 3)
    sizes = [count_params(layer) for layer in block.layers]
    norm = 2 * 4
    assert sizes == [25 * 2 * 4 + norm, 0, 2 * 4 + norm, (2 + 4) * 4 + norm, 0]
    assert count_params(block.output) == 8 * 4 + norm


def test_a_block_without_weights_is_widened_at_its_end_where_it_must() -> None:
    space = small(blocks=2)
    network = space.network(space.of_codes(parsed("(1,4,0,0,0) (2,7,0,0,0)")))
    assert [[count_params(block) for block in stage] for stage in network.stages] == [[0, 0], [2 * 4 + 8, 0]]


@pytest.mark.parametrize("sizes", [{}, {"channels": (4, 2), "image_size": 7}, {"layers": 9, "channels": (3,)}])
def test_multiply_adds_are_those_that_are_counted(sizes: dict[str, object]) -> None:
    space, generator = small(**sizes), torch.Generator().manual_seed(2)
    for _ in range(8):
        architecture = space.sample(generator)
        with torch.device("meta"):
            network = space.network(architecture)
        assert space.macs(architecture) == count_macs(network, space.input_shape)
        assert set(space.cost_keys(architecture)) <= space.operations().keys()


def test_density_and_multiply_adds_in_the_papers_size() -> None:
    space = BlockQNNSpace()
    chain = space.of_codes(parsed("(1,1,3,0,0) (2,1,3,1,0) (3,7,0,0,0)"))
    assert space.density(chain) == 2 / 3
    with torch.device("meta"):
        assert space.macs(chain) == count_macs(space.network(chain), (3, 32, 32))


def test_equal_blocks_have_one_canonical_form() -> None:
    space = small(layers=5)
    swapped = space.of_codes(parsed("(1,2,1,0,0) (2,5,0,1,0) (3,6,0,2,1) (4,7,0,0,0)"))
    expected = space.of_codes(parsed("(1,4,0,0,0) (2,5,0,0,1) (3,6,0,1,2) (4,7,0,0,0)"))
    assert space.canonical(swapped) == expected


def test_sizes_that_cannot_be_are_refused() -> None:
    for options, words in (
        ({"layers": 1}, "2 layers and a stage"),
        ({"channels": ()}, "2 layers and a stage"),
        ({"image_size": 3, "channels": (1, 1, 1)}, "3 pixels cannot be halved"),
    ):
        with pytest.raises(InputError, match=words):
            small(**options)
