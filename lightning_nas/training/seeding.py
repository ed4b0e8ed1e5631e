"""Random numbers as a pure function of a key (seed, purpose, time).

No state is saved or restored: the same key gives the same numbers in any process at any time.
"""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator

KeyPart = int | str

_SPARE: list[np.random.MT19937] = []


def mix(*key: KeyPart) -> int:
    """Hash a key of integers and strings to 63 bits: BLAKE2b of its JSON.

    >>> mix(7, "weights", 0) == mix(7, "weights", 0)
    True
    >>> mix(7, "weights", 0) == mix(7, "weights", 1)
    False
    """
    return int.from_bytes(blake2b(json.dumps(key).encode(), digest_size=8).digest(), "big") >> 1


def generator(*key: KeyPart, device: torch.device | str = "cpu") -> torch.Generator:
    """Make a torch generator that is seeded from a key.

    >>> torch.randperm(4, generator=generator(7, "a")).equal(torch.randperm(4, generator=generator(7, "a")))
    True
    """
    return torch.Generator(device).manual_seed(mix(*key))


@contextmanager
def seeded(*key: KeyPart) -> Iterator[None]:
    """Seed the global generators of python, numpy and torch from a key inside the context, and restore them afterwards.

    For code that takes no generator (torchvision's transforms, a user's data set). It covers torch's generators of the
    CPU and, if CUDA is in use, of the current CUDA device, and numpy's legacy functions ``np.random.*``, whose stored
    second normal of a drawn pair is dropped. It takes about 25 microseconds, because numpy's generator is exchanged
    instead of copied.

    Example:
        >>> with seeded(7, "a"):
        ...     first = torch.rand(())
        >>> with seeded(7, "a"):
        ...     bool(torch.rand(()) == first)
        True
    """
    seed = mix(*key)
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call, unused-ignore]
    python, numpy, cpu = random.getstate(), get_bit_generator(), torch.default_generator.get_state()
    device = torch.cuda.get_rng_state() if cuda else None
    spare = _SPARE.pop() if _SPARE else np.random.MT19937()
    set_bit_generator(spare)
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - foreign code draws from it
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        set_bit_generator(numpy)
        _SPARE.append(spare)
        torch.default_generator.set_state(cpu)
        if device is not None:
            torch.cuda.set_rng_state(device)


def seed_everything(*key: KeyPart) -> None:
    """Seed the global generators of python, numpy and torch (all devices in use) from a key."""
    seed = mix(*key)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 20 times as long where CUDA is not in use
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call, unused-ignore]
        torch.cuda.manual_seed_all(seed)
