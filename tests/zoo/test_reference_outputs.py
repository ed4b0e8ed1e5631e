"""Networks of the zoo give the outputs of the classes that their authors published, or of timm's.

Those classes were run outside this project with the weights and images that are made here; ``reference_outputs.json``
holds the numbers and says whose they are. "eval" are logits with the filled running statistics, "train" those with the
statistics of the batch, "after" those with the running statistics that the training pass left behind.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_nas import zoo

CLASSES, WORDS = 5, 20
REFERENCES: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("reference_outputs.json").read_text(encoding="utf-8")
)


def numbers(shape: tuple[int, ...], start: int) -> Tensor:
    """Numbers in [-1, 1) that look random, by integer arithmetic: the same on every machine."""
    i = torch.arange(torch.Size(shape).numel()) + 1
    mixed = (i * i % 1_000_003 * 40_503 + i * 7_919 + start * 104_729) % 1_000_003
    return (mixed.double() / 500_001.5 - 1).view(shape)


@torch.no_grad()
def fill(network: nn.Module) -> None:
    """Give every parameter and running statistic a fixed value, in the order of the state."""
    for place, (name, tensor) in enumerate(network.state_dict().items()):
        if tensor.is_floating_point():
            values = numbers(tuple(tensor.shape), place)
            if tensor.dim() > 1:
                values *= (6 / tensor[0].numel()) ** 0.5  # of the size that keeps activations as large
            elif name.endswith(("running_var", "weight")):
                values = 1 + values / 4
            else:
                values /= 4
            tensor.copy_(values)


def build(name: str, reference: dict[str, Any]) -> nn.Module:
    """The network in float64 without dropout, filled; narrower where the reference says so."""
    entry = zoo._entry(name)
    with torch.device("meta"):
        classes = CLASSES if "size" in reference else WORDS
        space = zoo._SPACES[entry["architecture"]["space"]](num_classes=classes, **entry["space"] | reference["space"])
        network = zoo._as_published(space.network(zoo.load(name), auxiliary="auxiliary" in reference), name)
    network = network.to_empty(device="cpu").double()
    fill(network)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def images(size: int) -> Tensor:
    """Two images."""
    return numbers((2, 3, size, size), 0)


def words() -> Tensor:
    """Two windows of six words."""
    return torch.arange(12).view(2, 6) * 7 % WORDS


@torch.no_grad()
def outputs(network: nn.Module, x: Tensor) -> dict[str, list[float]]:
    """The logits of the passes that are compared."""
    first = network.eval()(x)
    found = network.train()(x)
    trained, *auxiliary = found if isinstance(found, tuple) else (found,)
    passes = {"eval": first, "train": trained, "after": network.eval()(x)}
    passes |= {"auxiliary": auxiliary[0]} if auxiliary else {}
    return {key: value.flatten().tolist() for key, value in passes.items()}


IMAGES = [name for name in REFERENCES if "size" in REFERENCES[name]]
TEXTS = [name for name in REFERENCES if "size" not in REFERENCES[name]]


@pytest.mark.parametrize("name", IMAGES)
def test_networks_give_the_outputs_of_the_published_classes(name: str) -> None:
    reference = REFERENCES[name]
    for passing, values in outputs(build(name, reference), images(reference["size"])).items():
        expected = torch.tensor(reference[passing], dtype=torch.float64)
        torch.testing.assert_close(torch.tensor(values, dtype=torch.float64), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TEXTS)
def test_recurrent_networks_give_the_outputs_of_the_published_class(name: str) -> None:
    network = build(name, REFERENCES[name]).eval()
    with torch.no_grad():
        last = network(words())[:, -1].log_softmax(-1).flatten()
    torch.testing.assert_close(last, torch.tensor(REFERENCES[name]["last"], dtype=torch.float64), rtol=1e-6, atol=1e-8)


def test_settings_of_batch_norms_are_the_published_ones() -> None:
    published = {
        "mdenas_imagenet": (1e-3, 0.1),
        "nasnet_a_mobile": (1e-3, 3e-4),
        "pnasnet5_mobile": (1e-3, 3e-4),
        "amoebanet_a_mobile": (1e-3, 3e-4),
        "pnasnet5_cifar": (1e-5, 0.1),
    }
    for name, expected in published.items():
        with torch.device("meta"):
            network = zoo.network(name)
        found = {(m.eps, m.momentum) for m in network.modules() if isinstance(m, _BatchNorm)}
        assert found == {expected}, name
