"""Constructors that take ``input_shape``: every size that is not given fits the images or texts.

The rule: images of up to 64 pixels, and vocabularies of up to 2,000 words, get the sizes (and the name) of
``conf/search_space/<name>_small.yaml``, which train in seconds to minutes on a laptop. Larger ones get the paper's
sizes: those for ImageNet where the paper has a network for it, else the defaults of the signature. An argument that is
passed always wins. Without ``input_shape`` every default of the signature holds: the paper's sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from typing import Annotated, Any, ParamSpec, get_args, get_origin, get_type_hints

from annotated_types import Interval
from pydantic import PositiveInt

from lightning_nas.errors import ConfigError, InputError, shown

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
        lightning_nas.errors.InputError: Space takes square images alone, got 28x32; FBNetSpace, ... take others
    """

    def decorate(constructor: Constructor[P]) -> Constructor[P]:
        def sizes(shape: Any, num_classes: int) -> tuple[dict[str, Any], Mapping[str, Any]]:
            del num_classes
            channels, height, width = _image(shape)
            if height != width and not takes_any_sides(constructor):
                raise InputError(square_alone(constructor.__qualname__.partition(".")[0], height, width))
            given = height if height == width else (height, width)
            return {"in_channels": channels, "image_size": given}, small if max(
                height, width
            ) <= SMALL_IMAGES else large

        return _sized(sizes, "(3, 32, 32), num_classes=10")(constructor)

    return decorate


def classes_of(given: Any, own: int) -> int:
    """Width of a classifier: the one that a network is asked for, or that of its space.

    >>> classes_of(None, 10), classes_of(3, 10)
    (10, 3)

    Raises:
        ConfigError: the width is no whole number from 1 on.
    """
    if given is None:
        return own
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 1:
        raise ConfigError(f"num_classes: got {shown(given)}; legal: int > 0, or None for {own}")
    return int(given)


def takes_any_sides(constructor: Callable[..., Any]) -> bool:
    """Whether images may be higher than wide or wider than high: whether ``image_size`` may be a tuple."""
    made = constructor.__init__ if isinstance(constructor, type) else constructor  # type: ignore[misc]
    try:
        annotation = get_type_hints(made).get("image_size")
    except (NameError, TypeError):  # names that only a type checker imports
        return False
    return any(get_origin(each) is tuple for each in get_args(annotation))


def square_alone(space: str, height: int, width: int) -> str:
    """The message for a space whose networks are for square images."""
    return (
        f"{space} takes square images alone, got {height}x{width}; FBNetSpace, MobileSpace, ProxylessNASSpace, "
        "ShuffleNetSpace, MnasNetSpace, TinySpace, DARTSSpace, NASBench201Space and AutoFormerSpace take others, or "
        "bring the images to a square"
    )


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
                _note(args, options)
            constructor(*args, **options)

        return wrapper

    return decorate


def _note(args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    """Let a space know the sizes it got: those of a later version may be others."""
    space, *name = args
    if "input_shape" in (noted := getattr(space, "made_with", {})):
        named = {"name": name[0]} if name else {}
        space.made_with = {**noted, **options, **named}
        del space.made_with["input_shape"]


def _agree(shape: Any, said: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    for key, value in said.items():
        if (came := options.get(key, value)) != value:
            raise InputError(
                f"input_shape={shown(shape)} says {key}={value}, but {key}={shown(came)} came too; leave one out"
            )


def _image(shape: Any) -> tuple[int, int, int]:
    numbers = _whole_numbers(shape)
    if len(numbers) != 3:
        raise InputError(f"input_shape must be (channels, height, width), e.g. (3, 32, 32); got {shown(shape)}")
    return numbers[0], numbers[1], numbers[2]


def _window(shape: Any) -> int:
    numbers = _whole_numbers(shape if isinstance(shape, Iterable) else [shape])
    if len(numbers) != 1:
        raise InputError(f"input_shape must be the words of a window, e.g. 20; got {shown(shape)}")
    return numbers[0]


def _whole_numbers(shape: Any) -> list[int]:
    """The numbers of a shape; none if one of them is not a whole number above 0."""
    numbers = list(shape) if isinstance(shape, Iterable) else []
    return numbers if all(type(number) is int and number > 0 for number in numbers) else []
