"""The environment that a test changes, or Lightning in it, does not reach the next test and its processes."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    with mock.patch.dict(os.environ):
        yield
