import enum
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Protocol, TypeVar

import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MinLen
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from lightning_nas.kinds import ANYTHING, Entry, kind

ENTRY = {"_target_": "x.Y"}
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, 3, -1, 0.0, 0.5, 1.0, 1.5, -0.5, 1e300, "", "a", "one", "1", "nan"),
    *([], [1], [1, 2], [1, 0.5], ["a", "b"], [[1], [2, 3]], [True], [0, -1], [1, 2, 3]),
    *({}, {"a": 1}, {"a": 0.5}, {"a": [1, 0.5]}, {"a": "b"}, {"a": True}, ENTRY, [ENTRY]),
]


def number(value: Any) -> bool:
    return type(value) in (int, float)


def items(value: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(test, value))


# an annotation, its words, and the same test written by hand
ANNOTATIONS: list[tuple[Any, str, Callable[[Any], bool]]] = [
    (int, "int", lambda v: type(v) is int),
    (float, "float", number),
    (bool, "bool", lambda v: type(v) is bool),
    (str, "str", lambda v: type(v) is str),
    (Path | os.PathLike[str], "str", lambda v: type(v) is str),
    (Optional[float], "float or null", lambda v: v is None or number(v)),  # noqa: UP045
    (int | bool | None, "int or bool or null", lambda v: v is None or type(v) in (int, bool)),
    (PositiveInt, "int > 0", lambda v: type(v) is int and v > 0),
    (NonNegativeInt | None, "int >= 0 or null", lambda v: v is None or (type(v) is int and v >= 0)),
    (PositiveFloat, "float > 0", lambda v: number(v) and v > 0),
    (Annotated[float, Interval(gt=0, le=1)], "float > 0 and <= 1", lambda v: number(v) and 0 < v <= 1),
    (Annotated[int, Gt(1), Lt(3)], "int > 1 and < 3", lambda v: type(v) is int and v == 2),
    (Annotated[float, Ge(-1), Le(0.5)], "float >= -1 and <= 0.5", lambda v: number(v) and -1 <= v <= 0.5),
    (Annotated[int, Field(ge=0, lt=2)], "int >= 0 and < 2", lambda v: type(v) is int and v in (0, 1)),
    (Literal["a", "b"], "'a', 'b'", lambda v: v in ("a", "b")),
    (Literal[7, "one", None], "7, 'one', None", lambda v: v is None or v == "one"),
    (list, "list", lambda v: isinstance(v, list)),
    (list[int], "list of int", lambda v: items(v, lambda i: type(i) is int)),
    (Sequence[str], "list of str", lambda v: items(v, lambda i: type(i) is str)),
    (Iterable[float], "list of float", lambda v: items(v, number)),
    (tuple[int, ...], "list of int", lambda v: items(v, lambda i: type(i) is int)),
    (Sequence[Sequence[int]], "list of list of int", lambda v: items(v, lambda i: items(i, lambda j: type(j) is int))),
    (tuple[int, float], "list of 2 (int, float)", lambda v: items(v, number) and len(v) == 2),
    (
        Annotated[list[int], MinLen(1)],
        "list of int, at least 1",
        lambda v: v != [] and items(v, lambda i: i in (*range(-1, 4),) and type(i) is int),
    ),
    (
        Annotated[list[int], Len(2, 2)],
        "list of int, exactly 2",
        lambda v: items(v, lambda i: type(i) is int) and len(v) == 2,
    ),
    (dict, "mapping", lambda v: isinstance(v, dict)),
    (Mapping[str, float], "mapping to float", lambda v: isinstance(v, dict) and all(map(number, v.values()))),
    (Entry, "an entry with _target_", lambda v: v == ENTRY),
    (Callable[[int], int] | None, "an entry with _target_ or null", lambda v: v in (None, ENTRY)),
    (list[Entry], "list of an entry with _target_", lambda v: v in ([], [ENTRY])),
    (int | Entry, "int or an entry with _target_", lambda v: type(v) is int or v == ENTRY),
    (dict[str, Entry | None] | None, "mapping to an entry with _target_ or null", lambda v: v in (None, {})),
    (Any, "anything", lambda v: True),
    (object, "anything", lambda v: True),
]


@pytest.mark.parametrize(("annotation", "text", "test"), ANNOTATIONS, ids=[text for _, text, _ in ANNOTATIONS])
def test_annotations_are_tests_of_plain_values(annotation: Any, text: str, test: Callable[[Any], bool]) -> None:
    found = kind(annotation)
    assert found.text == text
    for value in VALUES:
        assert found.accepts(value) == test(value), value


@pytest.mark.parametrize("annotation", [float, int, PositiveFloat, list[float], dict[str, float], float | None])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(annotation: Any, value: float) -> None:
    assert not any(kind(annotation).accepts(wrapped) for wrapped in (value, [value], {"a": value}))


def test_an_integer_beyond_every_float_is_no_float() -> None:
    assert not kind(float).accepts(10**400)
    assert not kind(PositiveFloat | None).accepts(10**400)
    assert kind(int).accepts(10**400)


class Color(enum.Enum):
    RED = "red"


class Sized(Protocol):
    size: int


@pytest.mark.parametrize("annotation", [Color, Sized, TypeVar("T"), "not python", int | Color])
def test_an_annotation_pydantic_cannot_test_accepts_anything(annotation: Any) -> None:
    found = kind(annotation)
    assert found.text == ANYTHING.text
    assert all(map(found.accepts, VALUES))
