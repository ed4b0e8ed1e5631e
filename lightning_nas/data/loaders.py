"""Loaders that can begin anywhere: what comes next depends on how many batches were seen, and on nothing else."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_nas.data.reader import Alternate
from lightning_nas.data.streams import Batch
from lightning_nas.errors import DataError

T_co = TypeVar("T_co", covariant=True)
Position = Callable[[], int]


class Numbered(Protocol[T_co]):
    """Batch ``t`` for every t; ``len`` is an epoch."""

    def __len__(self) -> int: ...

    def __getitem__(self, t: int) -> T_co: ...


def from_the_start() -> int:
    """The position of a loader that begins anew every time."""
    return 0


class Loader(Generic[T_co]):
    """Batches from a position to the end of its epoch: what a Lightning Trainer takes as one loader.

    Batch t is ``batches[t]`` whoever makes it, so worker processes change nothing but the speed. The position is read
    when iteration begins; after a resume in mid-epoch only the rest of that epoch comes, as Lightning expects.

    Args:
        batches: batch by its number since the start of the run.
        position: how many batches were seen so far.
        limit: epochs are cut to this many batches (int) or this share of them (float). For the trainer's
            ``limit_train_batches``: ``len`` stays what it was, since Lightning applies the same limit to it.
        num_workers: processes that make batches ahead of time; 0 makes them on demand, in this one.
    """

    def __init__(
        self,
        batches: Numbered[T_co],
        position: Position = from_the_start,
        *,
        limit: int | float = 1.0,
        num_workers: int = 0,
    ) -> None:
        self.batches = batches
        # The sampler gives t and the data set the whole batch. The generator is there because to begin an iteration
        # would otherwise draw from the global one.
        self._loader: DataLoader[Any] = DataLoader(
            _Guarded(batches),
            batch_size=None,
            sampler=_Remaining(position, limited(len(batches), limit)),
            collate_fn=_as_it_is,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[T_co]:
        for batch in self._loader:
            if isinstance(batch, DataError):
                self._iterator = None  # ends the workers now
                raise batch
            yield batch

    # Lightning ends the workers of a loader through this attribute. Those left to the garbage collector (and loader,
    # module and trainer know each other) would be waited for in vain, five seconds each.

    @property
    def _iterator(self) -> Any:
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, iterator: Any) -> None:
        self._loader._iterator = iterator

    # Lightning warns at a resume in mid-epoch unless a loader has these two. There is no state: the position says all.

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


class SearchLoader(Loader[dict[str, Batch]]):
    """Batches for a search: ``{"weights": (x, y), "arch": (x, y)}`` from two disjoint parts.

    Args:
        weights: batches for the shared weights.
        arch: batches for the architecture parameters; None for a search that has none.
        position: how many batches were seen so far.
        alternate: "batch" gives both in every batch, for as long as one pass over ``weights`` takes, ``arch`` going
            round at its own pace; "epoch" gives a pass of weights batches alone and then a pass of arch batches alone
            (FBNet, arXiv:1812.03443, section 3.3).
        limit: of :class:`Loader`; with "epoch" both passes are cut in proportion.
        num_workers: of :class:`Loader`.

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
        position: Position = from_the_start,
        *,
        alternate: Alternate = "batch",
        limit: int | float = 1.0,
        num_workers: int = 0,
    ) -> None:
        parts = {"weights": weights} if arch is None else {"weights": weights, "arch": arch}
        in_turn = alternate == "epoch" and arch is not None
        super().__init__(_Search(parts, in_turn, limit), position, limit=limit, num_workers=num_workers)


class _Search:
    """Batch t of each part, or of the part whose turn it is."""

    def __init__(self, parts: dict[str, Numbered[Batch]], in_turn: bool, limit: int | float) -> None:
        self.parts, self.in_turn = parts, in_turn
        self.epoch = limited(len(self), limit)
        first = -(-self.epoch * len(parts["weights"]) // len(self))
        self.first = min(first, max(1, self.epoch - 1))  # however short an epoch is cut, both have their turn

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
    """Batches of an epoch under Lightning's ``limit_train_batches``.

    >>> limited(20, 1.0), limited(20, 0.25), limited(20, 3), limited(20, 30)
    (20, 5, 3, 20)
    """
    return max(1, min(length, limit) if isinstance(limit, int) else int(length * limit))


class _Remaining(Sampler[int]):
    """The numbers of the batches from a position to the end of its epoch."""

    def __init__(self, position: Position, epoch: int) -> None:
        self.position, self.epoch = position, epoch

    def __iter__(self) -> Iterator[int]:
        start = self.position()
        return iter(range(start, (start // self.epoch + 1) * self.epoch))

    def __len__(self) -> int:
        return self.epoch


class _Guarded(Dataset[Any]):
    """Hands a :class:`DataError` over as a value: raised in a worker process, it would arrive as a long traceback."""

    def __init__(self, batches: Numbered[Any]) -> None:
        self.batches = batches

    def __getitem__(self, t: int) -> Any:
        try:
            return self.batches[t]
        except DataError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch
