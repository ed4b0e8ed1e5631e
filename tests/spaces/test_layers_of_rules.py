"""Layers of torch named in rules: against the layers written out by hand."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
import torchvision
from helpers import chosen_modules as modules
from torch import nn

from lightning_nas.errors import InputError, InvalidArchitecture
from lightning_nas.latency.macs import count_macs, count_params, count_space
from lightning_nas.spaces.description import describe, rebuilt
from lightning_nas.spaces.own.built import FromBuilder
from lightning_nas.spaces.own.space import FromModel
from lightning_nas.spaces.own.templates import Site, Template

CONV = {"_target_": "torch.nn.Conv2d", "kernel_size": 5}
DEPTHWISE = [
    {"_target_": "torch.nn.Conv2d", "kernel_size": 3, "groups": "in", "out_channels": "in", "bias": False},
    {"_target_": "torch.nn.BatchNorm2d"},
    {"_target_": "torch.nn.Conv2d", "kernel_size": 1},
]
RULES = [
    {"match": "body.*", "type": "Conv2d", "choices": ["keep", {"wide": CONV}, {"depthwise": DEPTHWISE}, "skip"]},
    {"match": "body.*", "width": True},
]


@functools.cache
def space() -> FromModel:
    return FromModel(modules.made(modules.Plain), (1, 3, 8, 8), RULES)


def test_layers_get_the_sizes_of_their_place() -> None:
    chosen = {"body.0": "depthwise", "body.2": "wide"}
    whole = {decision.name: decision.options[-1] for decision in space().decisions}
    network = space().extract(space().supernet(), space().validate(whole | chosen))
    first = nn.Sequential(
        nn.Conv2d(3, 3, 3, stride=2, padding=1, groups=3, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 8, 1)
    )
    assert repr(network.body[0]) == repr(first)
    assert repr(network.body[2]) == repr(nn.Conv2d(8, 8, 5, padding=2))


def test_extracted_networks_equal_active_ones_and_their_predicted_size() -> None:
    module, supernet = modules.made(modules.Plain), space().supernet().eval()
    x, generator = space().example(3, torch.Generator().manual_seed(2)), torch.Generator().manual_seed(1)
    params, macs = count_space(space(), "params"), count_space(space(), "MACs")
    assert torch.equal(space().extract(supernet, space().largest).eval()(x), module(x))
    for architecture in (space().smallest, *(space().sample(generator) for _ in range(10))):
        alone = space().extract(supernet, architecture).eval()
        assert torch.equal(supernet(x, space().gates(architecture)), alone(x))
        assert space().cost(architecture, params) == count_params(alone)
        assert space().cost(architecture, macs) == count_macs(alone, (3, 8, 8))


@pytest.mark.parametrize(
    ("told", "site", "expected"),
    [
        (CONV, ((4, 14, 14), (6, 14, 14)), nn.Conv2d(4, 6, 5, padding=2)),
        (CONV, ((4, 7, 14), (6, 4, 14)), nn.Conv2d(4, 6, 5, stride=(2, 1), padding=2)),
        (CONV, ((4, 7, 7), (6, 3, 3)), nn.Conv2d(4, 6, 5, stride=2, padding=1)),
        ({**CONV, "stride": 3}, ((4, 14, 14), (6, 5, 5)), nn.Conv2d(4, 6, 5, stride=3, padding=2)),
        ({**CONV, "dilation": 2}, ((4, 14, 14), (6, 7, 7)), nn.Conv2d(4, 6, 5, stride=2, padding=4, dilation=2)),
        ({**CONV, "padding": "same"}, ((4, 14, 14), (6, 14, 14)), nn.Conv2d(4, 6, 5, padding="same")),
        ({"_target_": "torch.nn.Linear"}, ((3, 8), (3, 12)), nn.Linear(8, 12)),
        ({"_target_": "torch.nn.LayerNorm"}, ((3, 8), (3, 8)), nn.LayerNorm(8)),
        (nn.GELU, ((3, 8), (3, 8)), nn.GELU()),
        (functools.partial(nn.MaxPool2d, kernel_size=3), ((4, 8, 8), (4, 4, 4)), nn.MaxPool2d(3, 2, 1)),
        (functools.partial(nn.GroupNorm, 2), ((4, 8, 8), (4, 8, 8)), None),  # by place, so not by name
    ],
)
def test_what_is_left_out_is_filled_in(told: Any, site: Any, expected: nn.Module | None) -> None:
    template = Template.of(told)
    if expected is None:
        assert template is None
        return
    assert template is not None
    assert repr(template.built(Site(*((2, *shape) for shape in site)))) == repr(expected)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (["keep", {"_target_": "torch.nn.Conv9d"}], "'torch.nn.Conv9d' is no layer; legal: torch.nn.Identity"),
        (["keep", {"_target_": "os.system"}], "'os.system' is no layer"),
        (["keep", {"_target_": "torch.nn.Sequential"}], "is no layer"),
        (["keep", {"_target_": "Conv2d"}], "is no layer"),
        (["keep", [CONV, 3]], "option 2 is"),
        (["keep", CONV, CONV], "two options are called conv2d"),
        (["keep", {"_target_": "torch.nn.Conv2d"}], r"conv2d fits nowhere; at body.0: Conv2d: .*'kernel_size'"),
        (["keep", {**CONV, "kernal": 3}], "kernal"),
        (["keep", {**CONV, "stride": 7}], r"fits nowhere; at body.0: gives the shape \(8, 2, 2\), keep gives"),
        (["keep", {**CONV, "groups": 5}], "divisible by groups"),
        (["keep", {"_target_": "torch.nn.ReLU", "inplace": True}], "fits nowhere"),
        (["keep", {"three": lambda conv: nn.Conv2d(3, 3, 1)}], "three fits nowhere; at body.0: gives the shape"),
    ],
)
def test_wrong_layers_are_refused_in_one_line(choices: list[object], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        FromModel(
            modules.made(modules.Plain), (1, 3, 8, 8), [{"match": "body.*", "type": "Conv2d", "choices": choices}]
        )
    assert "\n" not in str(caught.value)


def test_a_file_builds_the_layers_again_and_no_others() -> None:
    wide = functools.partial(nn.Conv2d, kernel_size=5, bias=False)
    row = [{"_target_": "torch.nn.Conv2d", "kernel_size": 1}, nn.ReLU]
    rules = [{"match": "features.3.squeeze", "choices": ["keep", {"wide": wide}, row]}]
    made = FromBuilder(torchvision.models.squeezenet1_1, rules, image_size=32, num_classes=10)
    told = json.loads(json.dumps(describe(made)))
    assert told["arguments"]["rules"][0]["choices"] == [
        "keep",
        {"wide": {"_target_": "torch.nn.Conv2d", "kernel_size": 5, "bias": False}},
        [{"_target_": "torch.nn.Conv2d", "kernel_size": 1}, {"_target_": "torch.nn.ReLU"}],
    ]
    again = rebuilt(told)
    assert again.digest == made.digest
    assert repr(again.network(again.smallest)) == repr(made.network(made.smallest))
    told["arguments"]["rules"][0]["choices"][1] = {"_target_": "os.system", "command": "ls"}
    with pytest.raises(InvalidArchitecture, match=r"'os.system' is no layer"):
        rebuilt(told)
