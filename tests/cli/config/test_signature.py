import importlib
import inspect
from pathlib import Path

import pytest

from lightning_nas.cli.config.signature import Signature, signature
from lightning_nas.cli.config.source import find_module, lookup


def static(target: str) -> Signature:
    place, _, name = target.rpartition(".")
    module = find_module(place)
    assert module is not None
    definition = lookup(module, name)
    assert definition is not None
    return signature(definition)


def classes(place: str) -> list[str]:
    names = {
        "torch.optim": "ASGD Adadelta Adafactor Adagrad Adam AdamW Adamax LBFGS Muon NAdam RAdam RMSprop Rprop SGD",
        "torch.optim.lr_scheduler": "ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR "
        "LambdaLR LinearLR MultiStepLR OneCycleLR PolynomialLR ReduceLROnPlateau SequentialLR StepLR",
        "pytorch_lightning": "Trainer",
        "pytorch_lightning.callbacks": "EarlyStopping LearningRateMonitor ModelCheckpoint RichProgressBar Timer "
        "StochasticWeightAveraging TQDMProgressBar DeviceStatsMonitor",
        "pytorch_lightning.loggers": "CSVLogger",
        "torchvision.transforms": "RandomCrop RandomHorizontalFlip Normalize CenterCrop",
        "lightning_nas.spaces.chains.fbnet": "FBNetSpace",
    }
    return [f"{place}.{name}" for name in names[place].split()]


@pytest.mark.parametrize(
    "place",
    [
        *("torch.optim", "torch.optim.lr_scheduler", "pytorch_lightning", "pytorch_lightning.callbacks"),
        *("pytorch_lightning.loggers", "torchvision.transforms", "lightning_nas.spaces.chains.fbnet"),
    ],
)
def test_the_source_gives_the_signature_that_inspect_gives(place: str) -> None:
    for target in classes(place):
        live = inspect.signature(getattr(importlib.import_module(place), target.rpartition(".")[2])).parameters.values()
        named = {p.name: p.default is p.empty for p in live if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        found = static(target)
        assert {name: p.required for name, p in found.parameters.items()} == named, target
        assert found.open == any(p.kind == p.VAR_KEYWORD for p in live)


SOURCE = """
import abc
import dataclasses
import enum
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, Generic, NamedTuple, TypeVar
import torch.nn as nn
from nowhere import Lost
T = TypeVar("T")

class Base:
    def __init__(self, space, task, *, seed: int = 0, rate: float): ...
class Middle(Base):
    def __init__(self, space, task, table=None, **options): super().__init__(space, task, **options)
class Paper(Middle):
    def __init__(self, space, task, table, *, alpha=0.2, **options):
        if alpha: super().__init__(space, task, table, **options)
class Fixed(Base):
    def __init__(self, **kwargs): super().__init__(1, 2, seed=3, **kwargs)
class Takes(Base):
    def __init__(self, own, **kwargs):
        self.kept = kwargs.pop("kept", None)
        super().__init__(1, 2, **kwargs)
class Inherits(abc.ABC, Generic[T], Middle): ...
class Nothing: ...
class Of(Lost): ...
class Module(nn.Module): ...
class Positional:
    def __init__(self, first, /, second, *rest, third=3): ...
class Made:
    def __new__(cls, one, two=2): ...
class Point(NamedTuple):
    x: int
@dataclass
class Data:
    a: int
    _: KW_ONLY
    b: int = 1
    c: list = field(default_factory=list)
    d: int = field(default=3, init=False)
    e: ClassVar[int] = 4
    f: int = field()
@dataclasses.dataclass(frozen=True)
class More(Data):
    g: int = 0
@dataclass
class Own:
    a: int
    def __init__(self, z): ...
@enum.unique
class Decorated: ...
"""


@pytest.mark.parametrize(
    ("name", "required", "optional", "is_open"),
    [
        ("Paper", "space task table rate", "alpha seed", False),
        ("Middle", "space task rate", "table seed", False),
        ("Fixed", "rate", "", False),
        ("Takes", "own", "", True),
        ("Inherits", "space task rate", "table seed", False),
        ("Nothing", "", "", False),
        ("Of", "", "", True),
        ("Module", "", "", True),
        ("Positional", "second", "third", False),
        ("Made", "one", "two", False),
        ("Point", "", "", True),
        ("Data", "a f", "b c", False),
        ("More", "a f", "b c g", False),
        ("Own", "z", "", False),
        ("Decorated", "", "", True),
    ],
)
def test_constructors_are_followed_through_their_bases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, required: str, optional: str, is_open: bool
) -> None:
    (tmp_path / f"shapes_{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    found = static(f"shapes_{name}.{name}")
    assert {n for n, p in found.parameters.items() if p.required} == set(required.split())
    assert {n for n, p in found.parameters.items() if not p.required} == set(optional.split())
    assert found.open == is_open
