from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import TINY, Commands, Ended


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables and truths that the runs of all tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cli(tmp_path: Path, cache: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path, cache)
    yield commands
    commands.clean()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, Ended]:
    """The folder of a small run from beginning to end, and how it ended."""
    commands = Commands(tmp_path_factory.mktemp("undisturbed"), cache)
    ended = commands.run(*TINY, f"hydra.run.dir={commands.folder / 'run'}")
    assert ended.code == 0, ended.err
    return commands.folder / "run", ended
