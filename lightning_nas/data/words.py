"""From untrusted text files to word numbers: reading, splitting into words, numbering."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from pydoc_data import topics
from typing import Literal

import torch
from torch import Tensor

from lightning_nas.data.options import option
from lightning_nas.errors import DataError, shown

Split = Literal["words", "spaces"]
UNKNOWN, END = "<unk>", "<eos>"

_LIMIT = 2 * 2**30
_PARTS = {"train": {"train"}, "val": {"valid", "val", "validation"}, "test": {"test"}}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffe\uffff]")
_WORD = re.compile(r"<\w+>|\w+|[^\w\s]")


def library_text() -> dict[str, str]:
    """The language reference that comes with Python, about 114,000 words, as the part "train"."""
    return {"train": "\n".join(topics.topics[name] for name in sorted(topics.topics))}


def read_text(path: str) -> dict[str, str]:
    """The text of each part by name: a file is "train", the files of a folder are parts by their names.

    Files of a folder are read if their name contains the word train, valid or test, as in ``ptb.train.txt``,
    ``wiki.valid.tokens`` and ``test.txt``.

    Raises:
        DataError: no such path, no training text, two files for one part, or a file that is not text.
    """
    given = Path(path).expanduser()
    if given.is_file():
        return {"train": _read(given)}
    if not given.is_dir():
        raise DataError(f"there is no file or folder {shown(given)}; set {option('path', 'FILE_OR_FOLDER')}")
    found: dict[str, Path] = {}
    for file in sorted(entry for entry in given.iterdir() if entry.is_file()):
        named = set(re.split(r"[^a-z]+", file.name.lower()))
        for part, names in _PARTS.items():
            if named & names:
                if part in found:
                    both = f"{shown(found[part].name)} and {shown(file.name)}"
                    raise DataError(f"{shown(given)} has two files for the {part} part: {both}; keep one of them")
                found[part] = file
    if "train" not in found:
        raise DataError(f"{shown(given)} has no training text; legal names are e.g. train.txt, valid.txt, test.txt")
    return {part: _read(file) for part, file in found.items()}


def _read(file: Path) -> str:
    where = shown(file)
    try:
        if file.stat().st_size > _LIMIT:
            raise DataError(f"{where} has more than {_LIMIT} bytes, the limit")
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise DataError(f"{where} is not UTF-8 text: {reason.reason} at byte {reason.start}") from None
    except OSError as reason:
        raise DataError(f"cannot read {where}: {reason.strerror}") from None
    if control := _CONTROL.search(text):
        raise DataError(f"{where} is not text: it has the character {control[0]!a} at position {control.start()}")
    if not text.strip():
        raise DataError(f"{where} has no words")
    return text


def split_words(text: str, how: Split) -> list[str]:
    """Words of a text, with ``<eos>`` at the end of each line.

    Args:
        text: any text.
        how: "spaces" splits at white space only; "words" takes runs of letters in lower case and single punctuation
            marks as words.

    >>> split_words("It's <unk>.", "words")
    ['it', "'", 's', '<unk>', '.', '<eos>']
    """
    lines = text.split("\n")
    if lines and not lines[-1].strip():
        lines.pop()
    cut = (_WORD.findall(line.lower()) if how == "words" else line.split() for line in lines)
    return [word for line in cut for word in (*line, END)]


def vocabulary(words: Iterable[str], limit: int | None, min_count: int) -> dict[str, int]:
    """Number of each word: ``<unk>`` is 0, ``<eos>`` is 1, the others follow from the most frequent to the rarest.

    Args:
        words: of the training text.
        limit: largest size of the vocabulary; None for no limit.
        min_count: words that occur less often are left out.

    >>> vocabulary("b a b c".split(), limit=4, min_count=1)
    {'<unk>': 0, '<eos>': 1, 'b': 2, 'a': 3}
    """
    counts = Counter(words)
    for special in (UNKNOWN, END):
        counts.pop(special, None)
    common = sorted((word for word, n in counts.items() if n >= min_count), key=lambda word: (-counts[word], word))
    return {word: i for i, word in enumerate([UNKNOWN, END, *common][:limit])}


def numbered(words: Sequence[str], numbers: Mapping[str, int]) -> Tensor:
    """Word numbers (n,), int64; words that the vocabulary lacks get the number of ``<unk>``."""
    unknown = numbers[UNKNOWN]
    return torch.tensor([numbers.get(word, unknown) for word in words], dtype=torch.int64)
