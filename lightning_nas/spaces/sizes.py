"""Constructors that take ``input_shape``: every size that is not given fits the images or texts.

The rule: images of up to 64 pixels, and vocabularies of up to 2,000 words, get the sizes (and the name) of
``conf/search_space/<name>_small.yaml``, which train in seconds to minutes on a laptop. Larger ones get the paper's
sizes: those for ImageNet where the paper has a network for it, else the defaults of the signature. An argument that is
passed always wins. Without ``input_shape`` every default of the signature holds: the paper's sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ParamSpec

from annotated_types import Interval
from pydantic import PositiveInt

from lightning_nas.errors import InputError, shown

InputShape = tuple[PositiveInt, PositiveInt, PositiveInt]
"""(channels, height, width) of the images."""

WindowShape = PositiveInt | tuple[PositiveInt]
"""T or (T,): words of a window."""

Probability = Annotated[float, Interval(ge=0, lt=1)]

SMALL_IMAGES = 64
"""Pixels of height and width up to which images are small."""

SMALL_VOCABULARY = 2_000
"""Words up to which a vocabulary is small."""

_NOTHING: Mapping[str, Any] = {}
P = ParamSpec("P")
Constructor = Callable[P, None]


def sized_by_images(
    *, small: Mapping[str, Any], large: Mapping[str, Any] = _NOTHING
) -> Callable[[Constructor[P]], Constructor[P]]:
    """Decorate the constructor of an image space: ``input_shape`` sets ``image_size``, ``in_channels`` and the sizes.

    The constructor declares ``input_shape`` beside ``image_size``, ``in_channels`` and ``num_classes``, and need not
    read it: the decorator turns it into the first two.

    Args:
        small: arguments for images of up to 64 pixels.
        large: arguments for larger images, where they differ from the defaults of the signature.

    Example:
        >>> class Space:
        ...     @sized_by_images(small={"width": 8})
        ...     def __init__(self, *, input_shape=None, image_size=224, in_channels=3, num_classes=1000, width=64):
        ...         self.sizes = image_size, in_channels, num_classes, width
        >>> Space().sizes, Space(input_shape=(1, 28, 28), num_classes=10).sizes
        ((224, 3, 1000, 64), (28, 1, 10, 8))
        >>> Space(input_shape=(3, 28, 32), num_classes=10)
        Traceback (most recent call last):
        lightning_nas.errors.InputError: input_shape must be (channels, height, width) of square images, ...
    """

    def sizes(shape: Any, num_classes: int) -> tuple[dict[str, Any], Mapping[str, Any]]:
        del num_classes
        channels, size = _square(shape)
        return {"in_channels": channels, "image_size": size}, small if size <= SMALL_IMAGES else large

    return _sized(sizes, "(3, 32, 32), num_classes=10")


def sized_by_words(
    *, small: Mapping[str, Any], large: Mapping[str, Any] = _NOTHING
) -> Callable[[Constructor[P]], Constructor[P]]:
    """Decorate the constructor of a space of language models: ``input_shape`` sets ``bptt`` and the sizes.

    Args:
        small: arguments for vocabularies (``num_classes``) of up to 2,000 words.
        large: arguments for larger ones, where they differ from the defaults of the signature.
    """

    def sizes(shape: Any, num_classes: int) -> tuple[dict[str, Any], Mapping[str, Any]]:
        return {"bptt": _window(shape)}, small if num_classes <= SMALL_VOCABULARY else large

    return _sized(sizes, "20, num_classes=1000")


def _sized(
    sizes: Callable[[Any, int], tuple[dict[str, Any], Mapping[str, Any]]], example: str
) -> Callable[[Constructor[P]], Constructor[P]]:
    def decorate(constructor: Constructor[P]) -> Constructor[P]:
        @functools.wraps(constructor)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
            options: dict[str, Any] = dict(kwargs)
            shape = options.pop("input_shape", None)
            if shape is not None:
                if "num_classes" not in options:
                    raise InputError(f"input_shape needs num_classes beside it, e.g. input_shape={example}")
                said, preset = sizes(shape, options["num_classes"])
                _agree(shape, said, options)
                taken = {"name"} if len(args) > 1 else set()  # after self, a name may be given by position
                options = {key: value for key, value in preset.items() if key not in taken} | said | options
            constructor(*args, **options)

        return wrapper

    return decorate


def _agree(shape: Any, said: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    for key, value in said.items():
        if (came := options.get(key, value)) != value:
            raise InputError(
                f"input_shape={shown(shape)} says {key}={value}, but {key}={shown(came)} came too; leave one out"
            )


def _square(shape: Any) -> tuple[int, int]:
    numbers = _whole_numbers(shape)
    if len(numbers) != 3 or numbers[1] != numbers[2]:
        raise InputError(
            f"input_shape must be (channels, height, width) of square images, e.g. (3, 32, 32); got {shown(shape)}"
        )
    return numbers[0], numbers[1]


def _window(shape: Any) -> int:
    numbers = _whole_numbers(shape if isinstance(shape, Iterable) else [shape])
    if len(numbers) != 1:
        raise InputError(f"input_shape must be the words of a window, e.g. 20; got {shown(shape)}")
    return numbers[0]


def _whole_numbers(shape: Any) -> list[int]:
    """The numbers of a shape; none if one of them is not a whole number above 0."""
    numbers = list(shape) if isinstance(shape, Iterable) else []
    return numbers if all(type(number) is int and number > 0 for number in numbers) else []
