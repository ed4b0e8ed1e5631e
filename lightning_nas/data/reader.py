"""The contract between search data and the module that is trained on them."""

from __future__ import annotations

from typing import Literal

Alternate = Literal["batch", "epoch"]
"""Order of batches of the weights part and of the arch part, see :class:`SearchReader`."""


class SearchReader:
    """Declares that a LightningModule is trained on search batches ``{"weights": (x, y), "arch": (x, y)}``.

    A module that inherits from this class gets such batches from :class:`~lightning_nas.data.base.SearchData`; any
    other module gets pairs ``(x, y)`` of the weights and arch parts together.

    Attributes:
        alternate: "batch" puts both parts into every batch; "epoch" gives one pass of weights batches and then one
            pass of arch batches; None gives weights batches alone.
        holds_out_arch: with None, whether the weights do not see the arch part, because architectures are scored on it;
            else they are trained on both parts together.
        position: batches seen since the run began. The next batch is a function of it, which makes a resumed search
            equal to an uninterrupted one.
    """

    alternate: Alternate | None
    holds_out_arch: bool = False
    position: int
