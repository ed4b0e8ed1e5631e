import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_nas.architecture import Decision
from lightning_nas.errors import InputError, InvalidArchitecture
from lightning_nas.latency.macs import count_params
from lightning_nas.latency.sources import Params
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.nas_rl.cnn import NASRLCNNSpace
from lightning_nas.spaces.nas_rl.networks import joined
from lightning_nas.strategies.controllers.controller import Controller
from lightning_nas.testing.spaces import SpaceCase

SIZES: dict[str, Any] = {"image_size": 7, "in_channels": 1, "num_classes": 3}


def small(**options: Any) -> NASRLCNNSpace:
    defaults = {"depths": (2, 4), "heights": (1, 3), "widths": (1, 5), "strides": (1, 2), "filters": (2, 3)}
    return NASRLCNNSpace("small", **SIZES | defaults | options)


def written(space: NASRLCNNSpace, *layers: str) -> dict[str, str]:
    """Choices by HEIGHT WIDTH STRIDE_HEIGHT STRIDE_WIDTH FILTERS and the numbers of inputs of each layer."""
    choices = {"depth": str(len(layers))}
    for k, layer in enumerate(layers, start=1):
        height, width, down, right, filters, *inputs = layer.split()
        asked = {"height": height, "width": width, "stride_height": down, "stride_width": right, "filters": filters}
        asked |= {f"skip_{j}": "yes" if str(j) in inputs else "no" for j in range(1, k)}
        choices |= {f"layer_{k}_{what}": option for what, option in asked.items()}
    return choices


class TestNasRlCnn(SpaceCase):
    @pytest.fixture(params=[(1, 2), (1, 2, 3), (1,)])
    def space(self, request: pytest.FixtureRequest) -> SearchSpace:
        return small(strides=request.param)


@pytest.mark.parametrize(("strides", "tokens"), [((1,), 3), ((1, 2, 3), 5)])
def test_networks_of_each_depth_are_as_many_tokens_as_in_the_paper(strides: tuple[int, ...], tokens: int) -> None:
    space = NASRLCNNSpace(strides=strides)
    for layers in space.depths:
        depth, *others = space.at_depth(layers).sample(torch.Generator().manual_seed(0)).choices
        assert depth == ("depth", str(layers))
        assert len(others) == tokens * layers + layers * (layers - 1) // 2


def test_the_depths_are_the_papers_schedule() -> None:
    depths = NASRLCNNSpace().depths
    for sampled in range(0, 12_800, 400):
        assert depths[sampled // 1_600] == 6 + 2 * math.floor(sampled / 1_600)


def test_decisions_follow_the_papers_order() -> None:
    decisions = small(depths=(2,)).decisions
    assert [d.name for d in decisions] == [
        "depth",
        *(f"layer_1_{what}" for what in ("height", "width", "stride_height", "stride_width", "filters")),
        *(f"layer_2_{what}" for what in ("height", "width", "stride_height", "stride_width", "filters", "skip_1")),
    ]
    assert decisions[-1] == Decision("layer_2_skip_1", ("no", "yes"), "layer_2", ("layer_1",))


def test_an_architecture_belongs_to_its_stage_and_the_final_space() -> None:
    space, generator = small(), torch.Generator().manual_seed(0)
    shallow, deep = space.at_depth(2), space.at_depth(4)
    assert (shallow.decisions, shallow.digest) == (space.decisions, space.digest)
    drawn = [shallow.sample(generator) for _ in range(20)]
    assert {a["depth"] for a in drawn} == {shallow.mutate(a, generator)["depth"] for a in drawn} == {"2"}
    assert [space.validate(a) for a in drawn] == drawn
    with pytest.raises(InvalidArchitecture, match=r"depth cannot be '2'; legal: 4"):
        deep.validate(drawn[0])
    assert {space.sample(generator)["depth"] for _ in range(30)} == {"2", "4"}


def test_a_layer_beyond_the_depth_is_refused() -> None:
    space = small()
    choices = dict(space.at_depth(2).sample(torch.Generator().manual_seed(0)).choices)
    with pytest.raises(InvalidArchitecture, match="layer_3_height cannot be '1'; legal: none"):
        space.validate(choices | {"layer_3_height": "1"})
    with pytest.raises(InputError, match="no networks of 3 layers; legal: 2, 4"):
        space.at_depth(3)


def test_a_network_computes_what_the_papers_rules_say() -> None:
    space = small(depths=(4,))
    layers = "3 1 1 1 2", "1 5 2 1 3 1", "3 5 1 2 2", "1 1 2 2 3 1 2"  # of the third: no input, so the image
    network = space.network(space.validate(written(space, *layers))).double().eval()
    generator = torch.Generator().manual_seed(0)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1, generator=generator)
    x = space.example(2, generator).double()

    def layer(k: int, x: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> torch.Tensor:
        conv, norm, _ = network.layers[k - 1]
        y = F.conv2d(x, conv.weight, None, stride, padding)
        scale, mean = norm.weight / (norm.running_var + norm.eps).sqrt(), norm.running_mean
        return torch.relu((y - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None])

    first = layer(1, x, (1, 1), (1, 0))
    second = layer(2, first, (2, 1), (0, 2))
    third = layer(3, x, (1, 2), (1, 2))
    assert (first.shape[1:], second.shape[1:], third.shape[1:]) == ((2, 7, 7), (3, 4, 7), (2, 7, 4))
    below = torch.cat([second, second.new_zeros(2, 3, 3, 7)], 2)
    fourth = layer(4, torch.cat([first, below], 1), (2, 2), (0, 0))
    assert fourth.shape[1:] == (3, 4, 4)
    ends = torch.zeros(2, 5, 7, 4, dtype=torch.float64)  # layers 3 and 4: no other works on them
    ends[:, :2], ends[:, 2:, :4] = third, fourth
    linear = network.head[-1]
    torch.testing.assert_close(network(x), ends.mean((2, 3)) @ linear.weight.T + linear.bias)


def test_smaller_tensors_are_padded_at_the_bottom_and_right() -> None:
    wide, high = torch.ones(1, 1, 1, 3), 2 * torch.ones(1, 1, 2, 1)
    assert joined([wide, high])[0].tolist() == [[[1, 1, 1], [0, 0, 0]], [[2, 0, 0], [2, 0, 0]]]
    assert joined([wide]) is wide


@pytest.mark.parametrize("connected", ["no", "yes"])
def test_all_or_no_connections_are_networks(connected: str) -> None:
    space = NASRLCNNSpace(depths=(15,), strides=(1,))
    choices = {d.name: connected if d.refers else d.options[-1] for d in space.decisions}
    with torch.device("meta"):
        network = space.network(space.validate(choices))
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert network.outputs == ((15,) if connected == "yes" else tuple(range(1, 16)))
    inputs = [conv.in_channels for conv in network.modules() if isinstance(conv, nn.Conv2d)]
    assert inputs == [3, *((64 * k if connected == "yes" else 3) for k in range(1, 15))]


def test_the_parameters_of_the_cost_keys_add_up_to_those_of_the_network() -> None:
    space = small()
    table, generator = Params()(space), torch.Generator().manual_seed(0)
    for _ in range(10):
        architecture = space.sample(generator)
        assert space.cost(architecture, table) == count_params(space.network(architecture))


def test_a_latency_table_of_the_papers_space_can_be_counted() -> None:
    assert len(NASRLCNNSpace().operations()) < 15_000
    assert len(NASRLCNNSpace(strides=(1,)).operations()) < 300


def test_a_controller_goes_on_where_a_shallower_stage_ended() -> None:
    space, generator = small(), torch.Generator().manual_seed(0)
    controller = Controller(space.at_depth(2), generator, hidden=8)
    shallow = controller.sample(5, generator)
    assert {len(a.choices) for a in shallow.architectures} == {1 + 2 * 5 + 1}
    controller.space = space.at_depth(4)
    deep = controller.sample(5, generator)
    assert {len(a.choices) for a in deep.architectures} == {1 + 4 * 5 + 6}
    entropies = 2 * 5 * math.log(2)  # nothing is to choose of the depth
    assert shallow.entropies.max() <= entropies + math.log(2) + 1e-5
    assert shallow.entropies.min() > 0.9 * entropies
    deep.log_probabilities.sum().backward()
    assert controller.attention.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heights": (1, 2)}, r"increasing odd numbers from 1 on, got heights=\[1, 2\]"),
        ({"depths": (4, 2)}, r"increasing numbers from 1 on, got depths=\[4, 2\]"),
        ({"strides": ()}, r"got strides=\[\]"),
        ({"filters": (0, 2)}, r"filters: got \(0, 2\); legal: list of int >= 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        small(**options)
