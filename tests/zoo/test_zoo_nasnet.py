"""The published networks of NASNet, AmoebaNet and PNAS have the sizes of a rebuild of the authors' code."""

import pytest
import torch
from macs import macs_of_parts

from lightning_nas import zoo
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.spaces.nasnet.any_cell import NASNetCellSpace

# classes, parameters, those of the auxiliary classifier (None: not known), multiply-adds
GOLDEN = {
    "nasnet_a_cifar": (10, 3_346_538, 1_631_498, 544_333_312),
    "nasnet_a_mobile": (1000, 5_289_978, 2_411_240, 563_638_816),
    "nasnet_a_large": (1000, 88_753_150, 4_567_784, 23_783_414_658),
    "amoebanet_a_cifar": (10, 3_218_266, None, 509_668_992),
    "amoebanet_a_mobile": (1000, 5_086_930, None, 554_687_204),
    "amoebanet_a_large": (1000, 86_739_341, None, 23_370_620_627),
    "pnasnet5_cifar": (10, 3_189_082, None, 574_891_392),
    "pnasnet5_mobile": (1000, 5_064_487, 2_412_776, 587_293_200),
    "pnasnet5_large": (1000, 86_057_668, None, 24_937_395_792),
}
STATISTICS = {"nasnet_a_cifar": 37_248, "nasnet_a_mobile": 36_738, "nasnet_a_large": 196_668}


@pytest.mark.parametrize("name", GOLDEN)
def test_networks_of_cells_have_the_size_of_the_authors_code(name: str) -> None:
    classes, params, auxiliary, macs = GOLDEN[name]
    with torch.device("meta"):
        network = zoo.network(name, classes, auxiliary=True)
    of_auxiliary = count_params(network.auxiliary)
    assert count_params(network) - of_auxiliary == params
    assert auxiliary in (None, of_auxiliary)
    assert macs_of_parts(zoo.space(name, classes), zoo.load(name)) == macs


@pytest.mark.parametrize("name", ["nasnet_a_large", "pnasnet5_mobile"])
def test_whole_networks_have_the_multiply_adds_of_the_authors_code(name: str) -> None:
    classes, _, _, macs = GOLDEN[name]
    with torch.device("meta"):
        network = zoo.network(name, classes)
    assert count_macs(network, zoo.space(name).input_shape) == macs


@pytest.mark.parametrize("name", STATISTICS)
def test_batch_norms_keep_as_many_statistics_as_the_authors(name: str) -> None:
    with torch.device("meta"):
        network = zoo.network(name, GOLDEN[name][0])
    assert sum(value.numel() for key, value in network.named_buffers() if "running" in key) == STATISTICS[name]


def test_nasnet_a_for_other_numbers_of_classes_has_the_published_size() -> None:
    with torch.device("meta"):
        cifar100, imagenet = zoo.network("nasnet_a_cifar", 100, True), zoo.network("nasnet_a_large", 1001, True)
    assert (count_params(cifar100), count_params(cifar100.auxiliary)) == (3_415_748 + 1_700_708, 1_700_708)
    assert (count_params(imagenet), count_params(imagenet.auxiliary)) == (88_757_183 + 4_568_553, 4_568_553)
    assert macs_of_parts(zoo.space("nasnet_a_cifar", 100), zoo.load("nasnet_a_cifar")) == 544_402_432
    assert macs_of_parts(zoo.space("nasnet_a_large", 1001), zoo.load("nasnet_a_large")) == 23_783_418_690


def test_amoebanet_a_of_32_filters_has_the_published_size() -> None:
    space = NASNetCellSpace(cells=6, filters=32, joins=["add"])
    with torch.device("meta"):
        network = space.network(zoo.load("amoebanet_a_cifar"))
    assert count_params(network) == 2_567_754
    assert macs_of_parts(space, zoo.load("amoebanet_a_cifar")) == 407_671_808
