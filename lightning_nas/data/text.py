"""Text for a search of language models: four contiguous parts that never overlap."""

import logging
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from lightning_nas.data.base import SearchData
from lightning_nas.data.loaders import Loader, Position
from lightning_nas.data.streams import Batch
from lightning_nas.data.windows import Windows
from lightning_nas.data.words import Split, library_text, numbered, read_text, split_words, vocabulary
from lightning_nas.errors import DataError

log = logging.getLogger(__name__)


class TextData(SearchData):
    """Words of a text, each to be foretold from those before it.

    The training text is cut, in order, into the weights part, the arch part and, where there are no such files, the
    validation and the test part. The vocabulary is that of weights and arch part alone.

    Args:
        path: a text file, or a folder with a file for training and maybe one each for validation and test (Penn
            Treebank and WikiText have that form); None is the language reference that comes with Python.
        split: "words" makes words of runs of letters, in lower case, and of single signs; "spaces" takes text that is
            cut into words already, as Penn Treebank and WikiText are.
        max_words: largest vocabulary, the rarer words are unknown; None takes all.
        min_count: words that occur less often are unknown.
        bptt: words of one window, through which gradients go back.
        random_length: windows of random lengths around ``bptt``, others in each pass (Merity et al., 2018,
            arXiv:1708.02182, section 5).
        batch_size: rows of one batch of one process.
        eval_batch_size: rows in validation and test.
        arch_fraction: share of the search's words that trains the architecture.
        val_fraction: share of the training text for validation, if there is no such file.
        test_fraction: likewise for the test.
        seed: of the windows' lengths.
        num_workers: processes that prepare batches; they change nothing but the speed.
        num_classes: size of the vocabulary, to be checked; None takes what is found.

    Example:
        >>> data = TextData()
        >>> data.setup()
        >>> data.shape, list(data.sizes)
        ((35,), ['weights', 'arch', 'val', 'test'])
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        split: Split = "words",
        max_words: PositiveInt | None = None,
        min_count: PositiveInt = 1,
        bptt: PositiveInt = 35,
        random_length: bool = False,
        batch_size: PositiveInt = 64,
        eval_batch_size: PositiveInt = 10,
        arch_fraction: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        val_fraction: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        test_fraction: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        seed: int = 0,
        num_workers: NonNegativeInt = 0,
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
        """Read, cut and number the text; once, whatever the stage.

        Raises:
            DataError: the text cannot be read, is none, or is too short; or another vocabulary than was given.
        """
        if self._parts:
            return
        texts = library_text() if self.path is None else read_text(self.path)
        parts = self._divide({name: split_words(text, self.split) for name, text in texts.items()})
        self.vocabulary = vocabulary([*parts["weights"], *parts["arch"]], self.max_words, self.min_count)
        if self._given not in (None, len(self.vocabulary)):
            raise DataError(
                f"the vocabulary has {len(self.vocabulary)} words, but dataset.num_classes is {self._given}; "
                "dataset.max_words limits it"
            )
        if len(self.vocabulary) < 3:
            raise DataError("the training text has not a single word left; lower dataset.min_count")
        self._parts = {name: numbered(words, self.vocabulary) for name, words in parts.items()}
        self._training("weights")
        if self.arch_fraction:
            self._training("arch")
        self._in_order("val")
        self._in_order("test")
        listed = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        log.info("words of the text: %s; %d different ones", listed, self.num_classes)

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

    @property
    def num_classes(self) -> int:
        return len(self.vocabulary)

    @property
    def sizes(self) -> dict[str, int]:
        """Words of each part."""
        return {name: len(words) for name, words in self._parts.items()}

    @property
    def found(self) -> dict[str, int]:
        return {"num_classes": self.num_classes}

    # -- loaders ------------------------------------------------------------------------------------------------

    def _windows(self, name: str, words: Tensor, rank: int, world_size: int, batch_size: int | None = None) -> Windows:
        seed = self.seed if self.random_length else None
        rows = batch_size or self.batch_size
        return Windows(words, name, rows, *self.shape, seed=seed, rank=rank, world_size=world_size)

    def _whole(self) -> Tensor:
        return torch.cat([self._parts["weights"], self._parts["arch"]])

    def _training(self, name: Literal["weights", "arch"], rank: int = 0, world_size: int = 1) -> Windows:
        return self._windows(name, self._parts[name], rank, world_size)

    def _calibration(self) -> Windows:
        return self._windows("retrain", self._whole(), 0, 1)

    def _in_order(
        self, name: Literal["arch", "val", "test"], rank: int = 0, world_size: int = 1, *, searched: bool = False
    ) -> Windows:
        del searched  # a search sees every word
        return Windows(self._parts[name], name, self.eval_batch_size, *self.shape, rank=rank, world_size=world_size)

    def _scored(self, part: Literal["val", "arch"]) -> Windows:
        """In as many rows as in training, if so many windows are there: a few batches then hold much of the part."""
        (bptt,), words = self.shape, self._parts[part]
        rows = min(self.batch_size, max(self.eval_batch_size, len(words) // (bptt + 1)))
        return Windows(words, part, rows, bptt)

    def retrain_loader(
        self,
        position: Position,
        rank: int = 0,
        world_size: int = 1,
        *,
        batch_size: int | None = None,
        limit: int | float = 1.0,
        searched: bool = False,
    ) -> Loader[Batch]:
        del searched  # a search sees every word
        windows = self._windows("retrain", self._whole(), rank, world_size, batch_size)
        return Loader(windows, position, limit=limit, num_workers=self.num_workers)
