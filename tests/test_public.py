"""The public names: listed once, imported on first use, documented with examples that run."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_nas as ln

TREE = ast.parse(Path(ln.__file__).read_text(encoding="utf-8"))

# contracts to be filled by subclasses; the pages docs/extending have whole examples
CONTRACTS = {"DifferentiableSearch", "RecordingCallback", "SearchData", "SearchModule", "Task", "TrialSearch"}


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, lightning_nas; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_names_for_type_checkers_are_those_that_are_imported() -> None:
    [block] = [node for node in TREE.body if isinstance(node, ast.If)]
    typed = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == set(ln.__all__) == {*ln._HOME, "choice", "zoo"}
    assert set(ln.__all__) <= set(dir(ln))


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Darts"):
        ln.Darts  # noqa: B018


@pytest.mark.parametrize("name", sorted(ln._HOME))
def test_a_public_name_is_documented_with_an_example(name: str) -> None:
    found = getattr(ln, name)
    documentation = inspect.getdoc(found) or ""
    assert documentation[0].isupper() or documentation[0].isdigit()
    assert ">>> " in documentation or name in CONTRACTS
