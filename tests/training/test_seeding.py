import hashlib
import random
from itertools import product

import numpy as np
import pytest
import torch

from lightning_nas.training.seeding import generator, mix, seed_everything, seeded


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def test_mix_is_63_bits_of_blake2b_of_the_json_text():
    digest = hashlib.blake2b(b'[7, "weights", 3]', digest_size=8).hexdigest()
    assert mix(7, "weights", 3) == int(digest, 16) // 2


def test_mix_tells_apart_keys_that_look_alike():
    keys = [(1, 2), (12,), ("1", 2), (1, "2"), ("1, 2",), (1, 2, 0), (-1, 2), ()]
    assert len({mix(*key) for key in keys}) == len(keys)


def test_mix_does_not_collide_on_neighbouring_keys():
    keys = list(product(range(3), ("weights", "arch"), range(20), range(200)))
    values = [mix(*key) for key in keys]
    assert len(set(values)) == len(keys)
    assert max(values) < 2**63
    assert np.mean([value >> 62 for value in values]) == pytest.approx(0.5, abs=0.02)


def test_generator_draws_what_torch_draws_from_that_seed():
    expected = torch.rand(4, generator=torch.Generator().manual_seed(mix(3, "a")))
    assert torch.rand(4, generator=generator(3, "a")).equal(expected)


def test_seeded_draws_depend_on_the_key_alone():
    with seeded(1, "a"):
        first = draws()
    seed_everything(99)
    draws()
    with seeded(1, "a"):
        assert draws() == first
    with seeded(1, "b"):
        assert not set(draws()) & set(first)


def test_seeded_leaves_the_global_generators_as_they_were():
    seed_everything(5)
    undisturbed = [draws() for _ in range(3)]
    seed_everything(5)
    disturbed = [draws()]
    with seeded(1, "a"):
        draws()
        with seeded(1, "b"):
            draws()
    disturbed.append(draws())
    with pytest.raises(ZeroDivisionError), seeded(2):
        draws()[int(1 / 0)]
    disturbed.append(draws())
    assert disturbed == undisturbed


def test_seeded_goes_on_where_it_was_after_an_inner_one():
    with seeded(1, "a"):
        plain = [draws(), draws()]
    with seeded(1, "a"):
        nested = [draws()]
        with seeded(1, "b"):
            draws()
        nested.append(draws())
    assert nested == plain


def test_numpy_can_be_seeded_again_inside():
    with seeded(1):
        np.random.seed(3)  # noqa: NPY002
        assert np.random.rand() == np.random.RandomState(3).rand()  # noqa: NPY002


def test_seed_everything_is_the_three_libraries_own_seeding():
    seed_everything(4, "noise")
    seed = mix(4, "noise")
    expected = random.Random(seed).random(), np.random.RandomState(seed % 2**32).rand()
    assert draws() == (*expected, torch.rand((), generator=torch.Generator().manual_seed(seed)).item())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_seeded_leaves_the_cuda_generator_as_it_was():
    seed_everything(5)
    undisturbed = [torch.rand((), device="cuda").item() for _ in range(2)]
    seed_everything(5)
    disturbed = [torch.rand((), device="cuda").item()]
    with seeded(1):
        inside = torch.rand((), device="cuda").item()
    disturbed.append(torch.rand((), device="cuda").item())
    with seeded(1):
        assert torch.rand((), device="cuda").item() == inside
    assert disturbed == undisturbed
