import importlib
import sys
from pathlib import Path

import pytest

from lightning_nas.cli.config.source import find_module, lookup


@pytest.mark.parametrize(
    "name", ["pytorch_lightning.callbacks", "torchmetrics.classification", "torchvision.transforms.v2"]
)
def test_lookup_finds_the_module_that_python_finds(name: str) -> None:
    live, module = importlib.import_module(name), find_module(name)
    assert module is not None
    classes = {n: c for n, c in vars(live).items() if isinstance(c, type) and not n.startswith("_")}
    assert len(classes) > 15
    for short, found in classes.items():
        definition = lookup(module, short)
        assert definition is not None, short
        assert definition.full_name == f"{found.__module__}.{found.__qualname__}"


def test_modules_are_found_by_their_files_without_importing_their_parents(stranger: Path) -> None:
    module = find_module("stranger._nets")
    assert module is not None
    assert set(module.bindings) == {"Base", "Net", "build"}
    assert "stranger" not in sys.modules
    assert not stranger.exists()


@pytest.mark.parametrize(
    "name", ["", "nowhere", "lightning_nas.nowhere", "lightning_nas.errors.deeper", "..", "__main__x"]
)
def test_what_is_no_module_is_none(name: str) -> None:
    assert find_module(name) is None


def test_a_compiled_module_is_there_but_not_readable() -> None:
    for name in ("math", "sys", "torch._C"):
        module = find_module(name)
        assert module is not None
        assert not module.readable


def test_circular_imports_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ring_a.py").write_text("from ring_b import Lost\nfrom ring_b import *\nfrom .up import *\n")
    (tmp_path / "ring_b.py").write_text("from ring_a import Lost\nfrom ring_a import *\n")
    (tmp_path / "ring_c.py").write_text("def")
    monkeypatch.syspath_prepend(tmp_path)
    module, broken = find_module("ring_a"), find_module("ring_c")
    assert module is not None
    assert broken is not None
    assert lookup(module, "Lost") is None
    assert lookup(module, "never_seen") is None
    assert not broken.readable
