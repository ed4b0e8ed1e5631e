import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas import zoo
from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError, InvalidArchitecture
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.spaces.eas.inheriting import origins
from lightning_nas.spaces.eas.networks import Layer, PlainNetwork
from lightning_nas.spaces.eas.space import EASSpace
from lightning_nas.testing.spaces import SpaceCase


def small(**options: object) -> EASSpace:
    sizes = {"image_size": 7, "in_channels": 1, "num_classes": 3, "filters": (2, 4, 7), "units": (4, 5), "longest": 2}
    return EASSpace("small", **sizes | {"pools": (2, 2), "start": (2, 2, 4)} | options)  # type: ignore[arg-type]


class TestEas(SpaceCase):
    @pytest.fixture
    def space(self) -> EASSpace:
        return small()


def grown(space: EASSpace, architecture: Architecture, generator: torch.Generator, steps: int) -> Architecture:
    """After some legal steps drawn at random."""

    def drawn(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    for _ in range(steps):
        wider = [i for i, can in enumerate(space.can_widen(architecture)) if can]
        deeper = [(b, place) for b, places in enumerate(space.can_deepen(architecture)) for place in range(places)]
        if wider and (drawn(2) or not deeper):
            architecture = space.widened(architecture, wider[drawn(len(wider))])
        elif deeper:
            block, place = deeper[drawn(len(deeper))]
            kernel = space.kernels[drawn(len(space.kernels))] if block < len(space.form.pools) else None
            architecture = space.deepened(architecture, block, place, kernel)
    return architecture


def trained(network: PlainNetwork, space: EASSpace, generator: torch.Generator) -> PlainNetwork:
    """After three steps, so that no weight and no statistic is what it was, and with logits of about one."""
    nn.init.normal_(network.classifier.weight, generator=generator)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        x = space.example(16, generator)
        optimizer.zero_grad()
        F.cross_entropy(network.train()(x), torch.arange(16) % space.num_classes).backward()
        optimizer.step()
    return network.eval()


def logits(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = network.eval()(x)
    return result


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("pools", [(2, 2), (2, 7)], ids=["flattened map", "flattened pixel"])
def test_children_compute_what_their_parents_did_along_random_chains(seed: int, pools: tuple[int, int]) -> None:
    space = small(longest=4, filters=(2, 3, 4, 7, 9), units=(4, 5, 8), pools=pools, dropout=(0.2, 0.5))
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    architecture = space.start
    parent = trained(space.network(architecture), space, generator)
    x = space.example(32, generator)
    for steps in (1, 1, 2, 3, 5):
        larger = grown(space, architecture, generator, steps)
        images = space.example(64, generator) if seed % 2 else None
        child = space.inherit(parent, architecture, larger, generator, images=images)
        assert isinstance(child, PlainNetwork)
        assert not child.training
        torch.testing.assert_close(logits(child, x), logits(parent, x), atol=1e-5, rtol=1e-5)
        fresh = space.network(larger)
        assert {n: v.shape for n, v in child.state_dict().items()} == {
            n: v.shape for n, v in fresh.state_dict().items()
        }
        architecture, parent = larger, trained(child, space, generator)


def test_the_papers_start_network_grows_without_a_change_of_its_function() -> None:
    space, generator = EASSpace(), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    parent = trained(space.network(space.start), space, generator)
    x, target = space.example(8, generator), space.start
    for token in range(0, 9, 2):
        target = space.widened(target, token)
    for block, kernel in enumerate((1, 3, 5, 3, None)):
        target = space.deepened(target, block, 0, kernel)
    child = space.inherit(parent, space.start, target, generator)
    torch.testing.assert_close(logits(child, x), logits(parent, x), atol=1e-5, rtol=1e-5)


def test_a_new_layer_after_a_widened_one_is_the_identity() -> None:
    space = small()
    larger = space.deepened(space.widened(space.start, 0), 0, 0, 3)
    child = space.inherit(space.network(space.start), space.start, larger, torch.Generator().manual_seed(0))
    [new] = [p for name, p in child.layers[1].named_parameters() if "conv" in name]
    assert torch.equal(new, nn.init.dirac_(torch.empty(4, 4, 3, 3)))


def test_the_papers_start_network_has_its_parameters_and_multiply_adds() -> None:
    space = EASSpace()
    assert zoo.load("eas_start") == space.start
    with torch.device("meta"):
        network = zoo.network("eas_start")
    convolutions = [sum(p.numel() for n, p in layer.named_parameters() if "conv" in n) for layer in network.layers]
    assert convolutions[:4] == [432, 4_608, 18_432, 73_728]
    assert sum(p.numel() for n, p in network.named_parameters() if ".norm." in n) == 992
    assert (count_params(network.layers[4]), count_params(network.classifier)) == (32_768 + 512, 2_570)
    assert count_params(network) == 133_530
    pixels = (32**2, 16**2, 8**2, 4**2)
    macs = sum(c * p for c, p in zip(convolutions[:4], pixels, strict=True)) + 128 * 256 + 256 * 10
    assert count_macs(network, (3, 32, 32)) == macs == 4_016_640


def test_inheriting_leaves_parent_and_global_generator_alone() -> None:
    space = small()
    parent = space.network(space.start)
    before = {name: value.clone() for name, value in parent.state_dict().items()}
    state = torch.get_rng_state()
    larger = space.deepened(space.widened(space.start, 0), 1, 0, 3)
    children = [space.inherit(parent, space.start, larger, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in parent.state_dict().items():
        assert torch.equal(value, before[name])
    for first, second in zip(children[0].parameters(), children[1].parameters(), strict=True):
        assert torch.equal(first, second)
        with torch.no_grad():
            first.zero_()
    assert all(torch.equal(value, before[name]) for name, value in parent.state_dict().items())
    assert children[0].training


def test_noise_changes_the_function_a_little() -> None:
    space, generator = small(), torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    parent = trained(space.network(space.start), space, generator)
    x, larger = space.example(16, generator), space.deepened(space.widened(space.start, 0), 1, 0, 3)
    child = space.inherit(parent, space.start, larger, generator, noise=1.0)
    difference = (logits(child, x) - logits(parent, x)).abs().max()
    assert 1e-5 < difference < 0.05 * logits(parent, x).abs().max()


def test_an_inherited_network_can_have_another_classifier_width_and_dtype() -> None:
    space = small()
    parent = space.network(space.start, num_classes=11).double().eval()
    x = space.example(4, torch.Generator())
    child = space.inherit(parent, space.start, space.deepened(space.start, 2, 0), torch.Generator())
    x = x.double()
    torch.testing.assert_close(logits(child, x), logits(parent, x))
    assert logits(child, x).shape == (4, 11)


def test_children_begin_near_the_function_of_their_parents() -> None:
    space, generator = small(longest=4, dropout=(0, 0)), torch.Generator().manual_seed(4)
    torch.manual_seed(4)
    parent, images = trained(space.network(space.start), space, generator), 1 + space.example(64, generator)
    for norm in (m for m in parent.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
        norm.momentum = 1.0
    expected = parent.train()(images).detach()  # running statistics are those of the images from now on
    larger = grown(space, space.start, generator, 6)
    apart = []
    for seen in (images, None, space.example(64, generator)):
        child = space.inherit(parent, space.start, larger, generator, images=seen)
        apart.append(float((child.train()(images).detach() - expected).abs().max() / expected.abs().max()))
    with_images, without, with_others = apart
    assert with_images < 0.02
    assert without < 0.2
    assert with_others > 0.3


def test_steps_are_legal_or_refused() -> None:
    space = small()
    start = space.start
    assert space.tokens(start) == ("conv-2-3", "pool", "conv-2-3", "pool", "fc-4")
    assert space.can_widen(start) == (True, False, True, False, True)
    widest = space.widened(space.widened(start, 0), 0)
    assert space.tokens(widest)[0] == "conv-7-3"
    assert space.can_widen(widest)[0] is False
    assert space.can_deepen(start) == (1, 1, 1)
    deep = space.deepened(start, 1, 0, 5)
    assert space.tokens(deep) == ("conv-2-3", "pool", "conv-2-3", "conv-2-5", "pool", "fc-4")
    assert space.can_deepen(deep) == (1, 0, 1)
    for token in (0, 1, -1, 5):
        with pytest.raises(InvalidArchitecture, match=f"nothing to widen at {token}"):
            space.widened(widest, token)
    for wrong in ((1, 0, 3), (0, 1, 3), (0, 0, 2), (0, 0, None), (2, 0, 3), (3, 0, 3), (-1, 0, None)):
        with pytest.raises(InvalidArchitecture, match="no layer of kernel"):
            space.deepened(deep, *wrong)


def test_a_new_layer_stands_after_its_place_in_its_block() -> None:
    space = small(longest=4)
    architecture = space.deepened(space.deepened(space.start, 1, 0, 1), 1, 1, 5)
    assert space.tokens(space.deepened(architecture, 1, 0, 3))[2:6] == ("conv-2-3", "conv-2-3", "conv-2-1", "conv-2-5")


def test_every_token_is_in_the_vocabulary() -> None:
    space, generator = small(), torch.Generator().manual_seed(0)
    seen = {token for _ in range(200) for token in space.tokens(space.sample(generator))}
    assert seen == set(space.vocabulary)
    assert len(space.vocabulary) == 1 + 3 * 3 + 2


def test_layers_and_architectures_are_inverse() -> None:
    space, generator = small(), torch.Generator().manual_seed(1)
    for _ in range(50):
        architecture = space.sample(generator)
        assert space.of_layers(space.layers(architecture)) == architecture
    with pytest.raises(InvalidArchitecture, match="block_2_layers"):
        space.of_layers(space.layers(space.start)[:1])


def test_whatever_grew_has_origins_and_what_shrank_has_none() -> None:
    space, generator = small(longest=4), torch.Generator().manual_seed(2)
    for _ in range(100):
        smaller = grown(space, space.start, generator, 3)
        larger = grown(space, smaller, generator, 4)
        made_of = origins(space.layers(smaller), space.layers(larger))
        assert made_of is not None
        assert [o for o in made_of if o is not None] == list(range(len(space.layers(smaller))))
        if larger != smaller:
            assert origins(space.layers(larger), space.layers(smaller)) is None


def test_origins_are_found_where_the_nearest_layer_is_the_wrong_one() -> None:
    parent = (Layer(0, 4, 3), Layer(0, 8, 3))
    assert origins(parent, (Layer(0, 4, 3), Layer(0, 8, 3), Layer(0, 4, 1))) is None  # narrower than the one before
    assert origins(parent, (Layer(0, 8, 3), Layer(0, 4, 3), Layer(0, 8, 3))) == (0, None, 1)
    assert origins(parent, (Layer(0, 8, 3), Layer(0, 8, 3), Layer(0, 4, 1))) is None
    assert origins((Layer(0, 4, 3),), (Layer(0, 2, 3),)) is None
    assert origins((Layer(0, 4, 3), Layer(1, 4, 3)), (Layer(0, 4, 3), Layer(0, 4, 3), Layer(1, 4, 3))) == (0, None, 1)


def test_a_network_that_cannot_be_grown_is_refused() -> None:
    space = small()
    larger = space.widened(space.start, 0)
    with pytest.raises(InvalidArchitecture, match=r"conv-2-3 pool.*cannot be grown from conv-4-3 pool"):
        space.inherit(space.network(larger), larger, space.start, torch.Generator())


def test_starts_and_lists_that_cannot_be_are_refused() -> None:
    for options in ({"start": (2, 4)}, {"start": (2, 3, 4)}, {"kernels": (1, 5)}):
        with pytest.raises(InputError, match="one layer a block"):
            small(**options)
    with pytest.raises(InputError, match="longest: got 0; legal: int >= 1 and <= 200"):
        small(longest=0)
    for options in ({"filters": (4, 2)}, {"units": (4, 4)}, {"kernels": (2, 3)}):
        with pytest.raises(InputError, match="ascending order and odd kernels"):
            small(**options)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_copies_of_a_unit_learn_the_same_for_ever_unless_there_is_noise(noise: float) -> None:
    space, generator = small(dropout=(0, 0), noise=noise), torch.Generator().manual_seed(5)
    torch.manual_seed(5)
    larger = space.widened(space.start, 0)  # two filters, and copies of them
    child = trained(space.inherit(space.network(space.start), space.start, larger, generator), space, generator)
    filters = next(child.layers[0].parameters()).flatten(1)
    apart = torch.cdist(filters, filters)[:2, 2:].min(0).values  # of each copy from its original
    assert bool((apart > 1e-3).all()) if noise else apart.tolist() == pytest.approx([0, 0], abs=1e-5)
