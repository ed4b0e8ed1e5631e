"""Loaders that can begin at any batch: the next batch depends only on how many batches were seen before."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar, Unpack

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_nas.data.options import LoadingOptions
from lightning_nas.data.reader import Alternate
from lightning_nas.data.streams import Batch
from lightning_nas.errors import DataError

T_co = TypeVar("T_co", covariant=True)
ReadPosition = Callable[[], int]
"""Returns how many batches were seen since the run began."""


class Numbered(Protocol[T_co]):
    """Batches by their number: ``batches[t]`` for every t from 0 on, without end; ``len`` is one epoch."""

    def __len__(self) -> int: ...

    def __getitem__(self, t: int) -> T_co: ...


def from_the_start() -> int:
    """The position of a loader that starts at the first batch every time."""
    return 0


class Loader(Generic[T_co]):
    """A data loader for a Lightning Trainer: the batches from a position to the end of that epoch.

    Batch t is ``batches[t]`` in whichever process it is made, so worker processes change only the speed. The position
    is read when iteration begins; after a resume within an epoch only the rest of that epoch comes, as Lightning
    expects.

    Args:
        batches: batch by its number since the start of the run.
        position: returns how many batches were seen so far.
        limit: number of batches (int) or share of an epoch (float) after which an epoch ends. Pass the trainer's
            ``limit_train_batches``: ``len`` is not changed, since Lightning applies the same limit to it.
        num_workers: processes that make batches ahead of time; 0 makes them on demand, in this process.
        pin_memory: copy batches into page-locked memory; None does so where there is a GPU.
        persistent_workers: keep worker processes from epoch to epoch.
    """

    def __init__(
        self,
        batches: Numbered[T_co],
        position: ReadPosition = from_the_start,
        *,
        limit: int | float = 1.0,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        persistent_workers: bool = True,
    ) -> None:
        self.batches = batches
        # The sampler gives t, the data set the whole batch. Without a generator of its own a DataLoader would draw from
        # the global one whenever an iteration begins.
        self._loader: DataLoader[Any] = DataLoader(
            _Guarded(batches),
            batch_size=None,
            sampler=_Remaining(position, limited(len(batches), limit)),
            collate_fn=_unchanged,
            num_workers=num_workers,
            persistent_workers=persistent_workers and num_workers > 0,
            pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
            generator=torch.Generator(),
        )

    def overfitted(self, batches: int | float) -> Self:
        """Repeat the first epoch for ever if Lightning's ``overfit_batches`` is set; returns the loader itself.

        Args:
            batches: ``trainer.overfit_batches``; Lightning makes it the ``limit`` of the loader too. 0 changes nothing.
        """
        sampler = self._loader.sampler
        assert isinstance(sampler, _Remaining)
        sampler.repeats = batches > 0
        return self

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[T_co]:
        for batch in self._loader:
            if isinstance(batch, DataError):
                self._iterator = None  # ends the workers now
                raise batch
            yield batch

    # Lightning ends the workers of a loader through this attribute. Workers left to the garbage collector (loader,
    # module and trainer refer to each other) would each cost a timeout of five seconds.

    @property
    def _iterator(self) -> Any:
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, iterator: Any) -> None:
        self._loader._iterator = iterator

    # Lightning warns at a resume within an epoch unless a loader has these two. The position is the whole state.

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


class SearchLoader(Loader[dict[str, Batch]]):
    """A loader of search batches ``{"weights": (x, y), "arch": (x, y)}`` from two disjoint parts.

    Args:
        weights: batches for the shared weights.
        arch: batches for the architecture parameters; None for a search without any.
        position: returns how many batches were seen so far.
        alternate: "batch" puts both parts into every batch; an epoch is one pass over ``weights``, and ``arch`` begins
            its next pass whenever one ends. "epoch" gives one pass of weights batches, then one pass of arch batches
            (FBNet, arXiv:1812.03443, section 3.3).
        limit: of :class:`Loader`; with "epoch" both passes are cut in proportion.
        options: of :class:`Loader`.

    Attributes:
        before_arch: batches of an epoch before the first with an arch part.

    Example:
        >>> from lightning_nas.data.samples import Arrays, Transform
        >>> from lightning_nas.data.streams import Batches, KeyedDataset, Stream
        >>> def part(name, n):
        ...     arrays = Arrays(torch.zeros(n, 1, 8, 8), torch.zeros(n, dtype=torch.int64))
        ...     return Batches(KeyedDataset(arrays, Transform(), 0, name), Stream(n, 2, 0, name))
        >>> [list(batch) for batch in SearchLoader(part("weights", 4), part("arch", 2), alternate="epoch")]
        [['weights'], ['weights'], ['arch']]
    """

    def __init__(
        self,
        weights: Numbered[Batch],
        arch: Numbered[Batch] | None,
        position: ReadPosition = from_the_start,
        *,
        alternate: Alternate = "batch",
        limit: int | float = 1.0,
        **options: Unpack[LoadingOptions],
    ) -> None:
        parts = {"weights": weights} if arch is None else {"weights": weights, "arch": arch}
        in_turn = alternate == "epoch" and arch is not None
        made = _SearchBatches(parts, in_turn, limit)
        super().__init__(made, position, limit=limit, **options)
        self.before_arch = made.first if in_turn else 0


class _SearchBatches:
    """Search batch t: batch t of each part, or of the one part whose turn it is."""

    def __init__(self, parts: dict[str, Numbered[Batch]], in_turn: bool, limit: int | float) -> None:
        self.parts, self.in_turn = parts, in_turn
        self.epoch = limited(len(self), limit)
        first = -(-self.epoch * len(parts["weights"]) // len(self))
        self.first = min(first, max(1, self.epoch - 1))  # both parts come, however few batches an epoch has

    def __len__(self) -> int:
        return sum(map(len, self.parts.values())) if self.in_turn else len(self.parts["weights"])

    def __getitem__(self, t: int) -> dict[str, Batch]:
        return {name: self.parts[name][number] for name, number in self._plan(t).items()}

    def _plan(self, t: int) -> dict[str, int]:
        if not self.in_turn:
            return dict.fromkeys(self.parts, t)
        epoch, place = divmod(t, self.epoch)
        if place < self.first:
            return {"weights": epoch * self.first + place}
        return {"arch": epoch * (self.epoch - self.first) + place - self.first}


def limited(length: int, limit: int | float) -> int:
    """Number of batches of an epoch under Lightning's ``limit_train_batches``.

    >>> limited(20, 1.0), limited(20, 0.25), limited(20, 3), limited(20, 30)
    (20, 5, 3, 20)
    """
    return max(1, min(length, limit) if isinstance(limit, int) else int(length * limit))


class _Remaining(Sampler[int]):
    """Sampler of the numbers of the batches from a position to the end of that epoch."""

    def __init__(self, position: ReadPosition, epoch: int) -> None:
        self.position, self.epoch, self.repeats = position, epoch, False

    def __iter__(self) -> Iterator[int]:
        start = self.position() % self.epoch if self.repeats else self.position()
        return iter(range(start, (start // self.epoch + 1) * self.epoch))

    def __len__(self) -> int:
        return self.epoch


class _Guarded(Dataset[Any]):
    """Data set that returns a :class:`DataError` as a value: raised in a worker it would arrive as a long traceback."""

    def __init__(self, batches: Numbered[Any]) -> None:
        self.batches = batches

    def __getitem__(self, t: int) -> Any:
        try:
            return self.batches[t]
        except DataError as error:
            return error


def _unchanged(batch: Any) -> Any:
    return batch
