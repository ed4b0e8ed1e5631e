from pathlib import Path

import pytest
import torch
from timms import computes_what_timms_does

from lightning_nas import zoo
from lightning_nas.errors import ConfigError, InputError
from lightning_nas.export.trained import sizes_of
from lightning_nas.latency import count_macs
from lightning_nas.latency.macs import count_params
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace

IMAGE = (3, 224, 224)
# parameters and multiply-adds of the published networks, by channels of the last convolution
GOLDEN = {
    ("fbnet_a", 1504): (4_321_464, 249_921_848),
    ("fbnet_a", 1984): (4_971_384, 258_680_888),
    ("fbnet_b", 1504): (4_163_128, 287_855_688),
    ("fbnet_b", 1984): (4_813_048, 296_614_728),
    ("fbnet_c", 1504): (4_922_280, 376_201_120),
    ("fbnet_c", 1984): (5_572_200, 384_960_160),
    ("fbnet_s8", 1504): (4_468_296, 292_922_680),
    ("fbnet_s8", 1984): (5_118_216, 301_681_720),
    ("fbnet_iphonex", 1504): (4_511_320, 321_798_968),
    ("fbnet_iphonex", 1984): (5_161_240, 330_558_008),
}
NASBENCH201 = {
    "nasbench201_resnet": (802_426, 113_951_360),
    "nasbench201_all_conv3x3": (1_531_546, 220_119_680),
    "nasbench201_all_conv1x1": (241_306, 31_376_000),
    "nasbench201_best_cifar10": (1_073_466, 153_272_960),
    "nasbench201_best_cifar100": (1_288_506, 184_730_240),
    "nasbench201_best_imagenet16": (858_426, 121_815_680),
}
PUBLISHED_HEAD = {"fbnet_a": 1504, "fbnet_b": 1984, "fbnet_c": 1984, "fbnet_s8": 1504, "fbnet_iphonex": 1504}


CHAINS = {
    "proxyless_gpu": (7_119_848, 465_260_160),
    "proxyless_cpu": (4_361_648, 439_243_864),
    "proxyless_mobile": (4_080_512, 320_427_584),
    "proxyless_mobile_14": (6_857_568, 580_883_408),
    "mdenas_mobile_gpu": (5_745_984, 765_096_256),
    "mdenas_mobile_cpu": (4_069_992, 515_539_216),
    "spos": (3_558_464, 322_918_720),
    "mnasnet_a1": (3_887_038, 311_579_072),
    "mnasnet_b1": (4_383_312, 314_415_872),
    "mnasnet_small": (2_030_264, 68_339_184),
    "hardcorenas_a": (5_260_232, 224_227_936),
    "hardcorenas_b": (5_176_544, 251_832_064),
    "hardcorenas_c": (5_521_224, 270_058_400),
    "hardcorenas_d": (7_500_208, 287_787_616),
    "hardcorenas_e": (8_070_992, 338_689_760),
    "hardcorenas_f": (8_199_688, 341_905_696),
    "attentive_nas_a0": (9_064_648, 203_389_568),
    "attentive_nas_a1": (9_563_336, 279_238_816),
    "attentive_nas_a2": (11_306_560, 316_730_080),
    "attentive_nas_a3": (12_999_072, 356_518_400),
    "attentive_nas_a4": (11_997_928, 443_530_752),
    "attentive_nas_a5": (12_833_240, 490_520_064),
    "attentive_nas_a6": (15_441_448, 709_007_232),
}


@pytest.mark.parametrize(("name", "head"), GOLDEN)
def test_networks_have_the_published_size(name: str, head: int) -> None:
    with torch.device("meta"):
        network = FBNetSpace(head=head).network(zoo.load(name))
    assert (count_params(network), count_macs(network, IMAGE)) == GOLDEN[name, head]


@pytest.mark.parametrize(("name", "head"), PUBLISHED_HEAD.items())
def test_the_zoo_builds_the_published_width(name: str, head: int) -> None:
    with torch.device("meta"):
        network = zoo.network(name, num_classes=1000)
    assert (count_params(network), count_macs(network, IMAGE)) == GOLDEN[name, head]


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_blocks_have_the_published_size(name: str) -> None:
    with torch.device("meta"):
        network = zoo.network(name, num_classes=1000)
    assert (count_params(network), count_macs(network, IMAGE)) == CHAINS[name]


def test_the_zoo_has_the_papers_networks() -> None:
    assert set(zoo.names()) >= {*PUBLISHED_HEAD, *CHAINS}
    assert list(zoo.names()) == sorted(zoo.names())


@pytest.mark.parametrize(
    ("name", "words", "params"),
    [
        ("darts_v1_ptb", 10_000, 22_960_000),
        ("darts_v2_ptb", 10_000, 22_960_000),
        ("darts_v2_wt2", 33_278, 33_127_878),
        ("enas_ptb", 10_000, 27_295_000),
        ("nascell", 10_000, 24_933_200),
        ("enas_lm", 10_000, 10_000 * (800 + 1) + 2 * 800 * 2 * 800 + 8 * 800 * 2 * 800),
    ],
)
def test_recurrent_networks_have_the_published_size(name: str, words: int, params: int) -> None:
    with torch.device("meta"):
        network = zoo.network(name, num_classes=words)
        assert network(torch.zeros(1, 2, dtype=torch.int64)).shape == (1, 2, words)
    assert count_params(network) == params


def test_the_cell_of_enas_lm_is_the_one_in_its_code() -> None:
    numbers = (0, 2, 1, 0, 2, 1, 2, 2, 4, 0, 5, 0, 3, 2, 6, 2)  # earlier node, function, ...
    functions = ("tanh", "relu", "sigmoid", "identity")
    words = (f"s{number}" if i % 2 == 0 else functions[number] for i, number in enumerate(numbers))
    assert zoo.load("enas_lm").options == tuple(words)
    space = zoo.space("enas_lm")
    assert isinstance(space, DARTSRNNSpace)
    assert space.outputs == tuple(range(1, 9))  # the mean of all but the first


@pytest.mark.parametrize("name", zoo.names())
def test_each_entry_is_legal_in_its_space_and_says_its_source(name: str) -> None:
    architecture = zoo.load(name)
    assert zoo.space(name).validate(architecture) == architecture
    assert set(zoo._entry(name)) - {"norm", "auxiliary_norm"} == {
        "architecture",
        "space",
        "source",
        "classes",
        "params",
    }
    assert "arXiv" in zoo._entry(name)["source"]


@pytest.mark.parametrize(("name", "golden"), NASBENCH201.items())
def test_cells_of_nasbench201_have_the_published_size(name: str, golden: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = zoo.network(name)
    assert (count_params(network), count_macs(network, (3, 32, 32))) == golden


def test_a_network_classifies_small_images_too() -> None:
    assert zoo.network("fbnet_a").eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("letter", "abcdef")
def test_hardcore_nas_computes_what_timms_does(letter: str) -> None:
    timm = pytest.importorskip("timm")
    computes_what_timms_does(f"hardcorenas_{letter}", timm.create_model(f"hardcorenas_{letter}"))


def test_fbnet_c_computes_what_timms_does() -> None:
    timm = pytest.importorskip("timm")
    computes_what_timms_does("fbnet_c", timm.create_model("fbnetc_100"))


def test_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(InputError, match=r"did you mean 'fbnet_c'\?.*fbnet_iphonex"):
        zoo.load("fbnet-c")
    with pytest.raises(InputError, match="it has: amoebanet") as caught:
        zoo.network("../../etc/passwd\n" * 100)
    assert len(str(caught.value)) < 1500


def test_no_fbnet_has_an_auxiliary_classifier() -> None:
    with pytest.raises(InputError, match="auxiliary=False"):
        zoo.network("fbnet_c", auxiliary=True)


@pytest.mark.parametrize("classes", [0, -1, 2.5, True])
def test_a_number_of_classes_that_none_can_have_is_refused(classes: int, tmp_path: Path) -> None:
    space = NASBench201Space(input_shape=(1, 8, 8), num_classes=3)
    file = tmp_path / "architecture.json"
    space.sample(torch.Generator()).save(file, sizes_of(space, 3))
    for name in ("fbnet_c", file):
        with pytest.raises(ConfigError, match=r"num_classes: got .*; legal: int > 0"):
            zoo.network(name, num_classes=classes)
    assert zoo.network(file, num_classes=2)(torch.zeros(2, 1, 8, 8)).shape == (2, 2)
