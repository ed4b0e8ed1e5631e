import importlib
import inspect
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Gt

from lightning_nas.cli.config.signature import Signature, signature
from lightning_nas.ranges import Width


def found(target: str) -> Signature:
    place, _, name = target.rpartition(".")
    return signature(getattr(importlib.import_module(place), name))


@pytest.mark.parametrize(
    ("target", "name", "annotation"),
    [
        ("torch.optim.SGD", "nesterov", bool),
        ("torch.optim.lr_scheduler.StepLR", "step_size", int),
        ("torchvision.transforms.RandomHorizontalFlip", "p", Any),  # not annotated
        ("lightning_nas.spaces.chains.fbnet.FBNetSpace", "head", Width),
    ],
)
def test_annotations_are_resolved(target: str, name: str, annotation: Any) -> None:
    assert found(target).arguments[name].annotation == annotation


@pytest.mark.parametrize("target", ["torch.optim.AdamW", "pytorch_lightning.Trainer"])
def test_a_class_without_options_takes_what_inspect_says(target: str) -> None:
    place, _, name = target.rpartition(".")
    live = inspect.signature(getattr(importlib.import_module(place), name)).parameters
    arguments = found(target).arguments
    assert {name: argument.required for name, argument in arguments.items()} == {
        name: parameter.default is parameter.empty for name, parameter in live.items()
    }
    assert not found(target).open


SOURCE = """
from __future__ import annotations
import abc
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar
from annotated_types import Gt
import torch.nn as nn
if TYPE_CHECKING:
    from nowhere import Lost
T = TypeVar("T")

class Base:
    def __init__(self, space, task, *, seed: int = 0, rate: Annotated[float, Gt(0)], lost: Lost = None): ...
class Middle(Base):
    def __init__(self, space, task, table=None, **options):
        '''Pass everything else on.'''
        super().__init__(space, task, **options)
class Paper(Middle):
    def __init__(self, space, task, table, *, alpha=0.2, **options):
        if alpha: super().__init__(space, task, table, **options)
class Fixed(Base):
    def __init__(self, **kwargs): super().__init__(1, 2, seed=min(3, 4), **kwargs)
class Takes(Base):
    def __init__(self, own, **kwargs):
        self.kept = kwargs.pop("kept", None)
        super().__init__(1, 2, **kwargs)
class Keeps(Base):
    def __init__(self, own, **kwargs):
        super().__init__(1, 2, rate=1)
        self.kept = kwargs
class Inherits(abc.ABC, Generic[T], Middle): ...
class Nothing: ...
class Module(nn.Module): ...
class Positional:
    def __init__(self, first, /, second, *rest, third=3): ...
class Made:
    def __new__(cls, one, two=2, **more): ...
class Shown(Base):
    import inspect
    __signature__ = inspect.Signature([inspect.Parameter("mu", inspect.Parameter.KEYWORD_ONLY, annotation=int)])
    def __init__(self, **options): ...
@dataclass
class Data:
    a: int
    _: KW_ONLY
    b: int = 1
    c: list = field(default_factory=list)
    d: int = field(default=3, init=False)
def function(a, *, b=1, **more): ...
"""


@pytest.mark.parametrize(
    ("name", "required", "optional", "is_open"),
    [
        ("Base", "space task rate", "seed lost", False),
        ("Paper", "space task table", "alpha seed rate lost", False),
        ("Middle", "space task", "table seed rate lost", False),
        ("Fixed", "", "space task rate lost", False),
        ("Takes", "own", "", True),
        ("Keeps", "own", "", True),
        ("Inherits", "space task", "table seed rate lost", False),
        ("Nothing", "", "", False),
        ("Module", "", "", True),
        ("Positional", "second", "third", False),
        ("Made", "one", "two", True),
        ("Shown", "mu", "", False),
        ("Data", "a", "b c", False),
        ("function", "a", "b", True),
    ],
)
def test_options_passed_on_to_bases_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, required: str, optional: str, is_open: bool
) -> None:
    (tmp_path / f"shapes_{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = found(f"shapes_{name}.{name}").arguments
    assert {n for n, p in arguments.items() if p.required} == set(required.split())
    assert {n for n, p in arguments.items() if not p.required} == set(optional.split())
    assert found(f"shapes_{name}.{name}").open == is_open


def test_an_inherited_argument_keeps_its_annotation_and_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shapes.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = found("shapes.Paper").arguments
    assert (arguments["seed"].annotation, arguments["seed"].default) == (int, 0)
    assert arguments["rate"].annotation == Annotated[float, Gt(0)]
    assert arguments["lost"].annotation is Any
    assert found("shapes.Data").arguments["b"].annotation is int
    assert signature(len) == Signature({}, open=False)
