"""Text in, word numbers out: reading files that are not trusted, cutting text into words, numbering them."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from pydoc_data import topics
from typing import Literal

import torch
from torch import Tensor

from lightning_nas.errors import DataError, shown

Split = Literal["words", "spaces"]
UNKNOWN, END = "<unk>", "<eos>"

_LIMIT = 2 * 2**30
_PARTS = {"train": {"train"}, "val": {"valid", "val", "validation"}, "test": {"test"}}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffe\uffff]")
_WORD = re.compile(r"<\w+>|\w+|[^\w\s]")


def library_text() -> dict[str, str]:
    """The language reference that comes with Python: about 114,000 words, all of them "train"."""
    return {"train": "\n".join(topics.topics[name] for name in sorted(topics.topics))}


def read_text(path: str) -> dict[str, str]:
    """The text of each part: all of a file as "train", or the files of a folder by their names.

    Of a folder's files those count whose names have the word train, valid or test in them, as ``ptb.train.txt``,
    ``wiki.valid.tokens`` and ``test.txt`` have.

    Raises:
        DataError: nothing there, no training text, two files for one part, or a file that is not text.
    """
    given = Path(path)
    if given.is_file():
        return {"train": _read(given)}
    if not given.is_dir():
        raise DataError(f"there is no file or folder {shown(given)}; pass dataset.path=FILE_OR_FOLDER")
    found: dict[str, Path] = {}
    for file in sorted(entry for entry in given.iterdir() if entry.is_file()):
        named = set(re.split(r"[^a-z]+", file.name.lower()))
        for part, names in _PARTS.items():
            if named & names:
                if part in found:
                    both = f"{shown(found[part].name)} and {shown(file.name)}"
                    raise DataError(f"{shown(given)} has two files for the {part} part: {both}; leave one there")
                found[part] = file
    if "train" not in found:
        raise DataError(f"{shown(given)} has no training text; legal names are e.g. train.txt, valid.txt, test.txt")
    return {part: _read(file) for part, file in found.items()}


def _read(file: Path) -> str:
    where = shown(file)
    try:
        if file.stat().st_size > _LIMIT:
            raise DataError(f"{where} has more than the {_LIMIT} bytes that are read")
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise DataError(f"{where} is not UTF-8 text: {reason.reason} at byte {reason.start}") from None
    except OSError as reason:
        raise DataError(f"cannot read {where}: {reason.strerror}") from None
    if control := _CONTROL.search(text):
        raise DataError(f"{where} is not text: it has the character {control[0]!a} at place {control.start()}")
    if not text.strip():
        raise DataError(f"{where} has no words")
    return text


def split_words(text: str, how: Split) -> list[str]:
    """Words of a text, each line ended by ``<eos>``.

    Args:
        text: any.
        how: "spaces" for text that is cut already; "words" makes runs of letters and single signs, in lower case.

    >>> split_words("It's <unk>.", "words")
    ['it', "'", 's', '<unk>', '.', '<eos>']
    """
    lines = text.split("\n")
    if lines and not lines[-1].strip():
        lines.pop()
    cut = (_WORD.findall(line.lower()) if how == "words" else line.split() for line in lines)
    return [word for line in cut for word in (*line, END)]


def vocabulary(words: Iterable[str], limit: int | None, min_count: int) -> dict[str, int]:
    """Numbers of the words, the frequent ones first, ``<unk>`` and ``<eos>`` among them whether they occur or not.

    Args:
        words: of the training text.
        limit: words at most; None for all.
        min_count: rarer ones are unknown.

    >>> vocabulary("b a b c".split(), limit=4, min_count=1)
    {'<unk>': 0, '<eos>': 1, 'b': 2, 'a': 3}
    """
    counts = Counter(words)
    for special in (UNKNOWN, END):
        counts.pop(special, None)
    common = sorted((word for word, n in counts.items() if n >= min_count), key=lambda word: (-counts[word], word))
    return {word: i for i, word in enumerate([UNKNOWN, END, *common][:limit])}


def numbered(words: Sequence[str], numbers: Mapping[str, int]) -> Tensor:
    """(n,) int64, ``<unk>`` for what the vocabulary does not have."""
    unknown = numbers[UNKNOWN]
    return torch.tensor([numbers.get(word, unknown) for word in words], dtype=torch.int64)
