"""Reading numpy's .npz files that are not trusted."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nas.errors import DataError, shown


def read_npz(path: Path, keys: Sequence[str], *, option: str, limit: int) -> dict[str, np.ndarray[Any, Any]]:
    """Those of some arrays that a file has; pickled objects are refused.

    Args:
        path: the file.
        keys: names of the arrays.
        option: what names the file in the configuration, for the error.
        limit: bytes of all that the file unpacks to, at most.

    Raises:
        DataError: no file, not an .npz file, a damaged one, too large, or with something else than arrays of numbers.
    """
    where = shown(path)
    if not path.is_file():
        raise DataError(f"there is no file {where}; pass {option}=FILE")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in keys if key in file} if size <= limit else {}
    except zipfile.BadZipFile:
        raise DataError(f"{where} is not a numpy .npz file, or only a piece of one") from None
    except Exception as reason:  # noqa: BLE001 - numpy lets through whatever its parsers meet in a damaged file
        if "allow_pickle" in str(reason):
            raise DataError(f"{where} is refused: it holds pickled objects, which may be code, not numbers") from None
        raise DataError(f"cannot read {where}: {shown(str(reason))}") from None
    if size > limit:
        raise DataError(f"{where} unpacks to {size} bytes, more than the {limit} that are read")
    if strange := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise DataError(f"{where}: {strange[0]} is not a numpy array")
    return arrays
