from collections.abc import Iterator

import pytest

from lightning_nas.testing.training import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads only quarrel over tensors as small as those of these tests."""
    with one_thread():
        yield
