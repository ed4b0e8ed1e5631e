import pytest
import torch
from macs import macs_of_parts

from lightning_nas import zoo
from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs, count_params

# parameters, those of the auxiliary classifier (None: not published), multiply-adds
CIFAR = {
    "darts_v1": (3_169_414, 476_426, 500_987_520),
    "darts_v2": (3_349_342, 476_426, 528_359_040),
    "pc_darts": (3_634_678, 476_426, 556_670_592),
    "pc_darts_imagenet_cifar": (3_721_510, None, 570_466_944),
    "p_darts": (3_433_798, None, 532_174_464),
    "gdas_v1": (3_368_782, None, 519_428_736),
    "snas": (2_661_382, None, 422_218_368),
    "darts_minus": (3_454_318, None, 546_551_424),
    "mdenas_cifar": (3_786_742, 476_426, 599_110_272),
    "nasnet": (3_830_950, 457_994, 603_452_448),
    "amoebanet": (3_145_078, None, 488_931_552),
    "fair_darts_a": (2_360_782, 476_426, 371_455_200),
    "fair_darts_b": (3_407_878, 476_426, 536_487_552),
    "fair_darts_c": (2_598_814, 476_426, 399_987_936),
    "fair_darts_d": (3_365_542, 476_426, 532_506_240),
    "fair_darts_e": (2_643_742, 476_426, 414_696_672),
    "fair_darts_f": (3_151_054, 476_426, 497_614_464),
    "fair_darts_g": (2_899_054, 476_426, 453_376_224),
}
IMAGENET = {
    "darts_v1_imagenet": (4_510_432, None, 505_864_704),
    "darts_v2_imagenet": (4_718_752, 1_260_776, 529_911_552),
    "pc_darts_cifar_imagenet": (5_270_560, None, 571_137_408),
    "pc_darts_imagenet": (5_342_464, None, 581_627_328),
    "p_darts_imagenet": (4_944_352, None, 542_819_328),
    "gdas_v1_imagenet": (4_969_216, None, 537_597_888),
    "snas_imagenet": (3_939_328, None, 438_042_432),
    "mdenas_imagenet": (5_329_024, None, 595_513_536),
    "nasnet_imagenet": (5_564_320, None, 604_031_616),
    "amoebanet_imagenet": (4_627_360, None, 526_746_624),
}
GOLDEN = {name: (10, 32, *numbers) for name, numbers in CIFAR.items()}
GOLDEN |= {name: (1000, 224, *numbers) for name, numbers in IMAGENET.items()}


@pytest.mark.parametrize("name", GOLDEN)
def test_cell_networks_have_the_published_size(name: str) -> None:
    classes, _, params, auxiliary, macs = GOLDEN[name]
    with torch.device("meta"):
        network = zoo.network(name, num_classes=classes, auxiliary=True)
    of_auxiliary = count_params(network.auxiliary)
    assert count_params(network) - of_auxiliary == params
    assert auxiliary in (None, of_auxiliary)
    assert macs_of_parts(zoo.space(name, classes), zoo.load(name)) == macs


@pytest.mark.parametrize("name", ["darts_v2", "pc_darts_imagenet", "amoebanet", "fair_darts_g"])
def test_whole_cell_networks_have_the_published_multiply_adds(name: str) -> None:
    classes, size, _, _, macs = GOLDEN[name]
    with torch.device("meta"):
        network = zoo.network(name, num_classes=classes, auxiliary=True)
    assert count_macs(network, (3, size, size)) == macs


def test_darts_v2_for_100_classes_has_the_published_size() -> None:
    with torch.device("meta"):
        network, with_auxiliary = (zoo.network("darts_v2", 100, auxiliary=wanted) for wanted in (False, True))
    assert (count_params(network), count_params(with_auxiliary)) == (3_401_272, 3_946_908)
    assert count_macs(network, (3, 32, 32)) == 528_410_880


@pytest.mark.parametrize("name", ["darts_v2", "darts_v2_imagenet"])
def test_auxiliary_logits_come_second_in_training_alone(name: str) -> None:
    classes, size, *_ = GOLDEN[name]
    with torch.device("meta"):
        network, images = zoo.network(name, classes, auxiliary=True), torch.zeros(2, 3, size, size)
    logits, auxiliary = network(images)
    assert logits.shape == auxiliary.shape == (2, classes)
    assert network.eval()(images).shape == (2, classes)


def test_the_nodes_fairdarts_leaves_out_are_left_out() -> None:
    choices = dict(zoo.load("fair_darts_g").choices)
    assert choices["normal_concat"] == "2,4,5"
    assert not [name for name in choices if name.startswith("normal") and name.endswith("_3")]


def test_cells_of_one_paper_are_the_same_in_both_forms() -> None:
    for name in ("darts_v1", "darts_v2", "p_darts", "gdas_v1", "snas", "nasnet", "amoebanet"):
        assert zoo.load(name) == zoo.load(f"{name}_imagenet")


def test_an_auxiliary_classifier_of_too_small_images_is_refused() -> None:
    space = zoo._SPACES["darts"](image_size=28)
    with pytest.raises(InputError, match="29 to 44 pixels, got 28"):
        space.network(zoo.load("darts_v2"), auxiliary=True)
