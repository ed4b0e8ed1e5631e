"""Check that the networks of a search space fit the data."""

from __future__ import annotations

from lightning_nas.data.base import SearchData
from lightning_nas.data.targets import WORDS
from lightning_nas.errors import DataError
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task


def check_sizes(space: SearchSpace, data: SearchData, task: Task) -> None:
    """Compare input shape, number of classes and kind of output, and let the task refuse this number.

    Raises:
        DataError: names both sizes.
        InputError: the settings of the task do not fit.
    """
    if space.pixelwise != (data.targets == "masks"):
        legal = "task=classification and data of classes" if data.targets == "masks" else "task=segmentation and masks"
        gives = "a class for each pixel" if space.pixelwise else "one output for a whole image"
        need = "search_space=dpc_small or dpc" if not space.pixelwise else "another search space, e.g. fbnet_small"
        legal = f"{need}, or {legal}"
        raise DataError(
            f"search_space={space.name} gives {gives}, and the data have {WORDS[data.targets]}; legal: {legal}"
        )
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
    task.check(data.search_num_classes)


def _sort(shape: tuple[int, ...]) -> str:
    kind = "text in windows of" if len(shape) == 1 else "images (channels x height x width)"
    return f"{kind} {'x'.join(map(str, shape))}"
