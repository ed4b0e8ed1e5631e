import ast
import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from lightning_nas.cli.config.annotations import interpret
from lightning_nas.cli.config.kinds import ANYTHING, Kind
from lightning_nas.cli.config.source import Module, find_module

NAMES = """
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Dict, List, Literal, Optional, Tuple, Union
from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
"""
ANNOTATIONS = [
    *("int", "float", "bool", "str", "None", "Any", "int | None", "Optional[float]", "Union[int, str, None]"),
    *("t.Optional[t.Union[int, bool]]", "list[int]", "List[float]", "Sequence[str]", "Sequence[Sequence[int]]", "list"),
    *("tuple[int, float]", "tuple[int, ...]", "Tuple[str, str]", "dict[str, int]", "Mapping[str, list[float]]", "dict"),
    *("Literal['a', 'b']", "Literal[7, 'one', None]", "Literal[-1, 'a']", "'int | None'", "Dict[str, Any]"),
    *("PositiveInt", "NonNegativeInt", "PositiveFloat", "NonNegativeFloat | None"),
    *("Annotated[float, Interval(gt=0, le=1)]", "Annotated[int, Gt(1), Lt(3)]", "Annotated[float, Ge(-1), Le(0.5)]"),
    *("Annotated[int, Field(ge=0, lt=2)]", "Annotated[float, Gt(0)] | None", "Annotated[list[int], MinLen(1)]"),
    "Annotated[list[PositiveInt], Field(min_length=2)]",
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, 3, -1, 0.0, 0.5, 1.0, 1.5, -0.5, 1e300, "", "a", "one", "1", "nan"),
    *([], [1], [1, 2], [1, 0.5], ["a", "b"], [[1], [2, 3]], [True], [0, -1], [1, 2, 3]),
    *({}, {"a": 1}, {"a": 0.5}, {"a": [1, 0.5]}, {"a": "b"}, {"a": True}),
]


def kind(annotation: str, module: Module | None = None) -> Kind:
    return interpret(ast.parse(annotation, mode="eval").body, module or Module("nowhere"))


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_annotations_accept_what_pydantic_accepts(annotation: str) -> None:
    scope: dict[str, Any] = {}
    exec(NAMES, scope)
    adapter = TypeAdapter(eval(annotation, scope))
    found = kind(annotation)
    for value in VALUES:
        try:
            adapter.validate_json(json.dumps(value), strict=True)
            legal = True
        except ValidationError:
            legal = False
        assert found.test(value) == legal, (annotation, value)


@pytest.mark.parametrize(
    "annotation", ["float", "int", "PositiveFloat", "list[float]", "dict[str, float]", "float | None"]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(annotation: str, value: float) -> None:
    assert not any(kind(annotation).accepts(wrapped) for wrapped in (value, [value], {"a": value}))


def test_an_integer_beyond_every_float_is_no_float() -> None:
    assert not kind("float").test(10**400)
    assert kind("int").test(10**400)


@pytest.mark.parametrize(
    "annotation",
    ["Strange[int]", "f(3)", "x.y.Z", "int | Strange", "Literal[x.Y]", "'not python'", "[int]", "Lost", "..."],
)
def test_what_is_not_understood_accepts_anything(annotation: str) -> None:
    assert kind(annotation) is ANYTHING


def test_entries_are_accepted_where_they_will_be_something_else() -> None:
    entry = {"_target_": "x.Y"}
    assert kind("int").accepts(entry)
    assert kind("list[int]").accepts([1, entry])
    assert not kind("int").accepts({"target": "x.Y"})


MODULE = """
import enum
from typing import Annotated, Callable as Call, Optional as Opt, TypeAlias
from annotated_types import Gt
from alias_ground import Rate as Speed, Shape
Factory = Call[[int], int]
Maybe: TypeAlias = "Opt[Speed]"
Loop = list["Loop"]
class Color(enum.Enum): ...
class Space: ...
def helper(): ...
"""


def test_aliases_are_followed_through_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alias_ground.py").write_text(
        "from annotated_types import Gt\nfrom typing import *\n"
        "Rate = Annotated[float, Gt(0)]\nShape = tuple[int, int]\n"
    )
    (tmp_path / "alias_user.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    module = find_module("alias_user")
    assert kind("Maybe", module).text == "float > 0 or null"
    assert kind("Shape | None", module).test([1, 2])
    assert not kind("Shape", module).test([1, 2, 3])
    assert not kind("Factory", module).test("adam")
    assert kind("Factory", module).accepts({"_target_": "torch.optim.Adam"})
    assert not kind("Space", module).test("fbnet")
    assert kind("Color", module).test("red")
    assert kind("helper", module) is ANYTHING
    assert kind("Loop", module).test([[[]]])
