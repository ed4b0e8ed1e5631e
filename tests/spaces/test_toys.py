import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy

from lightning_nas.architecture import Architecture
from lightning_nas.testing.spaces import SpaceCase
from lightning_nas.testing.toys import OPERATIONS, ToyNodeSpace, ToySpace, toy_images
from lightning_nas.testing.training import one_thread
from lightning_nas.training.seeding import seeded


class TestToySpace(SpaceCase):
    @pytest.fixture
    def space(self) -> ToySpace:
        return ToySpace()


class TestToyNodeSpace(SpaceCase):
    @pytest.fixture
    def space(self) -> ToyNodeSpace:
        return ToyNodeSpace()


@pytest.mark.parametrize("space", [ToySpace(), ToyNodeSpace()], ids=lambda space: space.name)
def test_the_best_network_is_far_better_than_all_others(space: ToySpace) -> None:
    pairs = itertools.product(OPERATIONS, repeat=2)
    everything = [space.validate({"layer_1": first, "layer_2": second}) for first, second in pairs]
    with one_thread():
        accuracies = {architecture: alone(space, architecture) for architecture in everything}
    best = accuracies.pop(space.best)
    assert best > 0.98
    assert max(accuracies.values()) < 0.8


def alone(space: ToySpace, architecture: Architecture) -> float:
    """Test accuracy after a hundred steps."""
    (x, y), (test_x, test_y) = ((images / 255 - 0.3, labels) for images, labels in map(toy_images, (512, 128), (0, 1)))
    with seeded(0, "alone"):
        network = space.network(architecture)
    optimizer, draw = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9), torch.Generator().manual_seed(0)
    for _ in range(100):
        batch = torch.randint(len(x), (32,), generator=draw)
        optimizer.zero_grad()
        cross_entropy(network(x[batch]), y[batch]).backward()
        optimizer.step()
    return float((network.eval()(test_x).argmax(-1) == test_y).float().mean())
