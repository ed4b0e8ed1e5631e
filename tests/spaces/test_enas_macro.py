import math

import pytest
import torch
from torch import nn

from lightning_nas.architecture import Decision
from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_params
from lightning_nas.ops.cells import FactorizedReduction
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.enas.macro import ENASMacroSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.testing.spaces import SpaceCase


def small(**options: object) -> ENASMacroSpace:
    sizes = {"image_size": 9, "in_channels": 1, "num_classes": 3, "layers": 4, "channels": 2, "evaluation": (2, 0.1)}
    return ENASMacroSpace(**sizes | options)  # type: ignore[arg-type]


class TestEnasMacro(SpaceCase):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return small()


class TestEnasMacroRetrained(SpaceCase):
    every_weight_trains = False  # tensors that nothing needs are halved all the same

    @pytest.fixture
    def space(self) -> SearchSpace:
        return small().evaluation()


def test_the_papers_space_has_as_many_networks() -> None:
    space = ENASMacroSpace()
    assert math.prod(len(d.options) for d in space.decisions) == 6**12 * 2**66 == 160618186625454535808756219904
    assert (space.form.pools, space.evaluation().form.channels) == ((4, 8), 96)


def test_decisions_come_layer_by_layer() -> None:
    decisions = {d.name: d for d in ENASMacroSpace(layers=3).decisions}
    assert list(decisions) == [
        *("layer_1_op", "layer_2_op", "layer_2_skip_0", "layer_3_op", "layer_3_skip_0", "layer_3_skip_1")
    ]
    assert decisions["layer_3_skip_1"] == Decision("layer_3_skip_1", ("no", "yes"), "layer_3", ("layer_1",))
    assert not decisions["layer_3_skip_1"].is_index


@pytest.mark.parametrize(("connected", "halved"), [("no", 1 + 1), ("yes", 5 + 9)])
def test_a_tensor_is_halved_only_if_it_is_needed_later(connected: str, halved: int) -> None:
    space = ENASMacroSpace(image_size=8, in_channels=1, channels=2)
    choices = {d.name: connected if d.refers else "conv_3x3" for d in space.decisions}
    architecture, runs = space.validate(choices), list[int]()
    supernet, network = space.supernet(), space.network(architecture)
    assert sum(isinstance(module, FactorizedReduction) for module in network.modules()) == halved
    for module in supernet.halvings.values():
        module.register_forward_hook(lambda *_: runs.append(1))
    supernet(torch.zeros(2, 1, 8, 8), space.gates(architecture))
    assert len(runs) == halved
    assert [key.split()[0] for key in space.cost_keys(architecture)].count("halve") == halved


def test_a_layer_is_the_batch_norm_of_a_weighted_sum() -> None:
    space = small(layers=3, dropout=0.0)  # halved after layers 1 and 2
    supernet = space.supernet().double().eval()
    generator = torch.Generator().manual_seed(0)
    rows = {g: torch.rand(s, generator=generator).double().softmax(-1) for g, s in space.gate_shapes.items()}
    x = space.example(2, generator).double()
    yes = rows["skips"][:, 1]

    def mixed(layer: int, tensor: torch.Tensor) -> torch.Tensor:
        operations: nn.ModuleDict = supernet.layers[layer]
        return sum(w * op(tensor) for w, op in zip(rows["operations"][layer], operations.values(), strict=True))

    def halve(layer: int, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        return [supernet.halvings[f"{layer}_{j}"](tensor) for j, tensor in enumerate(tensors)]

    stem = supernet.stem(x)
    tensors = halve(1, [stem, mixed(0, stem)])
    second = supernet.merges[0].norm(mixed(1, tensors[1]) + yes[0] * tensors[0])
    tensors = halve(2, [*tensors, second])
    third = supernet.merges[1].norm(mixed(2, tensors[2]) + yes[1] * tensors[0] + yes[2] * tensors[1])
    torch.testing.assert_close(supernet(x, Gates.soft(rows)), supernet.head(third))


def test_the_retrained_network_concatenates_and_doubles_channels() -> None:
    space = ENASMacroSpace(evaluation=(4, 0.0)).evaluation()
    choices = {d.name: "no" if d.refers else "sep_conv_3x3" for d in space.decisions}
    choices["layer_12_skip_3"] = "yes"
    with torch.device("meta"):
        network = space.network(space.validate(choices))
    width = 4 * 4
    assert count_params(network.layers[11]) == 10 * width * width + 4 * width  # 1x1 and a full 3x3, two batch norms
    assert [count_params(merge) for merge in network.merges[9:]] == [
        width * width + 2 * width,
        2 * width * width + 2 * width,
    ]


def test_sizes_that_cannot_be_are_refused() -> None:
    for options, words in (
        ({"image_size": 3}, "at least 4 pixels, got 3"),
        ({"layers": 2}, "at least 3 layers, got layers=2"),
        ({"channels": 3}, "even.*channels=3"),
    ):
        with pytest.raises(InputError, match=words):
            small(**options)
