"""A reader of untrusted .npz files of numpy."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nas.errors import DataError, shown


def read_npz(
    path: Path, keys: Sequence[str], *, named: str, limit: int, instead: str = ""
) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a file by name; pickled objects are refused.

    Args:
        path: the file.
        keys: names of the arrays to read; those that the file lacks are left out.
        named: the option that sets the path, for the error, e.g. "path=FILE".
        limit: largest size of the unpacked file in bytes.
        instead: what to do about a file that is too large, for the error.

    Raises:
        DataError: no file, not an .npz file, a damaged one, too large, or with other content than arrays of numbers.
    """
    where, size, arrays = shown(path), 0, dict[str, np.ndarray[Any, Any]]()
    if not path.is_file():
        raise DataError(f"there is no file {where}; pass {named}")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size <= limit:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in keys if key in file}
    except zipfile.BadZipFile:
        raise DataError(f"{where} is not a numpy .npz file, or is cut off") from None
    except MemoryError:
        raise DataError(f"{where} unpacks to {size} bytes, which do not fit into the memory{instead}") from None
    except Exception as reason:  # noqa: BLE001 - numpy passes on any error of its parsers at a damaged file
        if "allow_pickle" in str(reason):
            raise DataError(f"{where} is refused: it holds pickled objects, which may run code") from None
        raise DataError(f"cannot read {where}: {shown(str(reason))}") from None
    if size > limit:
        raise DataError(f"{where} unpacks to {size} bytes; legal: at most {limit}{instead}")
    if strange := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise DataError(f"{where}: {strange[0]} is not a numpy array")
    return arrays
