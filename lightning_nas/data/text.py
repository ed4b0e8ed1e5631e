"""Text for a search of language models, in four contiguous parts."""

import hashlib
import logging
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from lightning_nas.data.base import SearchData
from lightning_nas.data.loaders import Loader, ReadPosition
from lightning_nas.data.options import Share, ShareOrNone, option
from lightning_nas.data.preprocessing import Preprocessing
from lightning_nas.data.samples import digest_of
from lightning_nas.data.streams import Batch
from lightning_nas.data.windows import Windows
from lightning_nas.data.words import Split, library_text, numbered, read_text, split_words, vocabulary
from lightning_nas.errors import DataError
from lightning_nas.ranges import BatchSize, Seed, Side, Workers

log = logging.getLogger(__name__)


class TextData(SearchData):
    """Words of a text for language modelling: predict each word from the words before it.

    The training text is divided, in order, into the weights part, the arch part and, where there are no files for them,
    the validation and the test part. The vocabulary holds the words of the weights and arch parts only.

    Batches are ``(x, y)``, both int64 (N, T): word numbers, and the word after each. N is ``batch_size``, or
    ``eval_batch_size`` in validation and test; T is ``bptt`` or less at the end of a pass, or random. Row n of a batch
    continues row n of the batch before.

    Args:
        path: a text file in UTF-8, or a folder with a file for training and optionally one each for validation and test
            (the form of Penn Treebank and WikiText); None is the language reference that comes with Python.
        split: "words" takes runs of letters in lower case and single punctuation marks as words; "spaces" is for text
            whose words are separated by spaces already, as in Penn Treebank and WikiText.
        max_words: largest size of the vocabulary, rarer words become ``<unk>``; None for no limit.
        min_count: words that occur less often become ``<unk>``.
        bptt: words of a window, the length of truncated back-propagation through time.
        random_length: draw the lengths of the windows around ``bptt``, anew for each pass (Merity et al., 2018,
            arXiv:1708.02182, section 5).
        batch_size: rows per batch and process.
        eval_batch_size: rows per batch in validation and test.
        arch_fraction: share of the searched words that trains the architecture.
        val_fraction: share of the training text for validation, unless there is a file for it.
        test_fraction: share of the training text for the test, unless there is a file for it.
        seed: of the lengths of the windows.
        num_workers: processes that prepare batches; they change only the speed.
        num_classes: size of the vocabulary, compared with the text; None takes that of the text.

    Raises:
        DataError: in ``setup``, if there is no readable text, it is too short, or has another vocabulary than given.

    Example:
        >>> data = TextData(max_words=500)
        >>> data.setup()
        >>> data.shape, data.num_classes, list(data.sizes)
        ((20,), 500, ['weights', 'arch', 'val', 'test'])
        >>> x, y = next(iter(data.val_dataloader()))
        >>> x.shape, bool((x[:, 1:] == y[:, :-1]).all())
        (torch.Size([10, 20]), True)
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        split: Split = "words",
        max_words: PositiveInt | None = 1000,
        min_count: PositiveInt = 1,
        bptt: Side = 20,
        random_length: bool = False,
        batch_size: BatchSize = 128,
        eval_batch_size: BatchSize = 10,
        arch_fraction: ShareOrNone = 0.2,
        val_fraction: Share = 0.1,
        test_fraction: Share = 0.1,
        seed: Seed = 0,
        num_workers: Workers = 0,
        num_classes: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        self.path, self.split, self.max_words, self.min_count = path, split, max_words, min_count
        self.shape = (bptt,)
        self.random_length, self.batch_size, self.eval_batch_size = random_length, batch_size, eval_batch_size
        self.arch_fraction, self.val_fraction, self.test_fraction = arch_fraction, val_fraction, test_fraction
        self.seed, self.num_workers, self._given = seed, num_workers, num_classes
        self.vocabulary: dict[str, int] = {}
        self._parts: dict[str, Tensor] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read, divide and number the text; later calls do nothing, whatever the stage.

        Raises:
            DataError: the text cannot be read, is empty or too short, or has another vocabulary than given.
        """
        if self._parts:
            return
        texts = library_text() if self.path is None else read_text(self.path)
        parts = self._divide({name: split_words(text, self.split) for name, text in texts.items()})
        self.vocabulary = vocabulary([*parts["weights"], *parts["arch"]], self.max_words, self.min_count)
        if self._given not in (None, len(self.vocabulary)):
            raise DataError(
                f"the vocabulary has {len(self.vocabulary)} words, but {option('num_classes')} is {self._given}; "
                f"{option('max_words')} limits it"
            )
        if len(self.vocabulary) < 3:
            raise DataError(f"no word of the training text is left; lower {option('min_count')}")
        self._parts = {name: numbered(words, self.vocabulary) for name, words in parts.items()}
        if self.for_search:
            self._training("weights")
            if self.arch_fraction:
                self._training("arch")
            self._in_order("val")
        self._in_order("test")
        listed = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        log.info("words of the text: %s; %d different words", listed, self.num_classes)

    def _divide(self, texts: dict[str, list[str]]) -> dict[str, list[str]]:
        words = texts["train"]
        rest = len(words)
        parts = {}
        for name, share in (("test", self.test_fraction), ("val", self.val_fraction)):
            count = 0 if name in texts else round(share * len(words))
            parts[name] = texts.get(name, words[rest - count : rest])
            rest -= count
        first = rest - round(self.arch_fraction * rest)
        return {"weights": words[:first], "arch": words[first:rest], "val": parts["val"], "test": parts["test"]}

    def digest(self) -> str:
        words = hashlib.sha256(repr(self.vocabulary).encode()).hexdigest()
        return f"{digest_of(*(self._parts[name] for name in sorted(self._parts)))[:8]}{words[:8]}"

    @property
    def num_classes(self) -> int:
        return len(self.vocabulary)

    def preprocessing(self) -> Preprocessing:
        return Preprocessing(
            kind="text",
            input_shape=list(self.shape),
            classes=list(self.vocabulary),
            outputs="words",
            split=self.split,
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of words of each part, by name."""
        return {name: len(words) for name, words in self._parts.items()}

    @property
    def found(self) -> dict[str, int | list[int]]:
        return {"num_classes": self.num_classes}

    # -- loaders ------------------------------------------------------------------------------------------------

    def _windows(self, name: str, words: Tensor, rank: int, world_size: int, batch_size: int | None = None) -> Windows:
        seed = self.seed if self.random_length else None
        rows = batch_size or self.batch_size
        return Windows(words, name, rows, *self.shape, seed=seed, rank=rank, world_size=world_size)

    def _whole(self) -> Tensor:
        return torch.cat([self._parts["weights"], self._parts["arch"]])

    def _training(self, name: Literal["weights", "arch", "searched"], rank: int = 0, world_size: int = 1) -> Windows:
        return self._windows(name, self._whole() if name == "searched" else self._parts[name], rank, world_size)

    def _calibration(self) -> Windows:
        return self._windows("retrain", self._whole(), 0, 1)

    def _in_order(
        self, name: Literal["arch", "val", "test"], rank: int = 0, world_size: int = 1, *, searched: bool = False
    ) -> Windows:
        del searched  # a search sees all words
        return Windows(self._parts[name], name, self.eval_batch_size, *self.shape, rank=rank, world_size=world_size)

    def _scored(self, part: Literal["val", "arch"]) -> Windows:
        """In as many rows as in training, as far as there are windows: a few batches then hold much of the part."""
        (bptt,), words = self.shape, self._parts[part]
        rows = min(self.batch_size, max(self.eval_batch_size, len(words) // (bptt + 1)))
        return Windows(words, part, rows, bptt)

    def retrain_loader(
        self,
        position: ReadPosition,
        rank: int = 0,
        world_size: int = 1,
        *,
        batch_size: int | None = None,
        limit: int | float = 1.0,
        searched: bool = False,
    ) -> Loader[Batch]:
        del searched  # a search sees all words
        windows = self._windows("retrain", self._whole(), rank, world_size, batch_size)
        return self._loader(windows, position, limit)
