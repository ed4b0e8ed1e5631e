"""Text as batches of windows, the unit of truncated back-propagation through time."""

import torch
from torch import Tensor

from lightning_nas.data.options import option
from lightning_nas.data.streams import Batch
from lightning_nas.errors import DataError
from lightning_nas.training.seeding import generator


class Windows:
    """Batches of a text by their number, pass after pass.

    The text is divided into equal consecutive pieces, one for each row of all processes. A batch is ``(x, y)``, both
    (batch_size, T): words, and the word after each. Window t + 1 begins where window t ends.

    Args:
        words: (n,) word numbers.
        name: of the part, for messages and random numbers.
        batch_size: rows of this process.
        bptt: words of a window.
        seed: the lengths of the windows of each pass are drawn from it; with None every window has ``bptt`` words, and
            the last one of a pass may be shorter.
        rank: of this process.
        world_size: number of processes.

    Raises:
        DataError: fewer than two words per row.

    Example:
        >>> windows = Windows(torch.arange(10), "weights", batch_size=2, bptt=3)
        >>> [x.tolist() for x, _ in (windows[0], windows[1])]
        [[[0, 1, 2], [5, 6, 7]], [[3], [8]]]
        >>> windows[0][1].tolist()
        [[1, 2, 3], [6, 7, 8]]
    """

    def __init__(
        self,
        words: Tensor,
        name: str,
        batch_size: int,
        bptt: int,
        *,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        rows = batch_size * world_size
        length = len(words) // rows
        if length < 2:
            raise DataError(
                f"the {name} part has {len(words)} words, too few for {rows} rows of text; lower "
                f"{option('batch_size')} or give this part a larger share of the text"
            )
        self.rows = words[: rows * length].view(rows, length)[rank * batch_size : (rank + 1) * batch_size]
        self.name, self.bptt, self.seed = name, bptt, seed

    def __len__(self) -> int:
        return -(-(self.rows.shape[1] - 1) // self.bptt)

    def __getitem__(self, t: int) -> Batch:
        number, place = divmod(t, len(self))
        start, end = self._ends(number)[place : place + 2]
        return self.rows[:, start:end].contiguous(), self.rows[:, start + 1 : end + 1].contiguous()

    def _ends(self, number: int) -> list[int]:
        """Where the windows of a pass begin; the last number is the end of the last window."""
        last = self.rows.shape[1] - 1
        if self.seed is None or len(self) == 1:
            return [*range(0, last, self.bptt), last]
        # Normal around bptt, with probability 0.05 around half of it (Merity et al.); then scaled to fill the pass.
        draw, count = generator(self.seed, self.name, "lengths", number), len(self)
        mean = torch.where(torch.rand(count, generator=draw) < 0.95, self.bptt, self.bptt / 2)
        lengths = (mean + self.bptt / 7 * torch.randn(count, generator=draw)).clamp(min=self.bptt / 7)
        share = lengths.double().cumsum(0) / lengths.double().sum()
        ends: list[int] = (torch.arange(1, count + 1) + (share * (last - count)).round().long()).tolist()
        return [0, *ends]
