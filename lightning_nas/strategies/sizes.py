"""Check that the networks of a search space fit the data."""

from __future__ import annotations

from lightning_nas.data.base import SearchData
from lightning_nas.errors import DataError
from lightning_nas.spaces.base import SearchSpace


def check_sizes(space: SearchSpace, data: SearchData) -> None:
    """Compare input shape and number of classes.

    Raises:
        DataError: names both sizes.
    """
    if space.input_shape != data.shape:
        raise DataError(
            f"search_space={space.name} is for {_sort(space.input_shape)}, the data has {_sort(data.shape)}; choose a "
            "search space that takes its sizes from the data, e.g. fbnet_small (images) or darts_rnn_small (text), "
            "or set search_space.image_size and search_space.in_channels"
        )
    if space.num_classes != data.search_num_classes:
        raise DataError(
            f"search_space={space.name} has {space.num_classes} classes, the data has {data.search_num_classes}; "
            f"set search_space.num_classes={data.search_num_classes}"
        )


def _sort(shape: tuple[int, ...]) -> str:
    kind = "text in windows of" if len(shape) == 1 else "images (channels x height x width)"
    return f"{kind} {'x'.join(map(str, shape))}"
