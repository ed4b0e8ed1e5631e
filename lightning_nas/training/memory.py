"""What a recurrent network remembers from batch to batch, in training that can be resumed."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.module import ResumableModule

_ONE = "train"
_VALIDATION = "val"


class RememberingModule(ResumableModule):
    """Feeds each batch together with what the network remembered of the batch before it, of the same stream of data.

    A search has two streams, "weights" and "arch", and validation is one more; each begins anew with the epoch. A
    batch that is not read (an architecture step that is not due) leaves the memory as it was. Memories are part of a
    checkpoint, those of all processes. What is remembered, if anything, is the task's affair.

    Attributes:
        task: what the network is trained for.
    """

    task: Task

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._memories: dict[str, Tensor] = {}

    def _streams(self, batch: Any) -> dict[str, Batch]:
        if isinstance(batch, dict):
            return batch
        return {_ONE if self.trainer.training else _VALIDATION: batch}

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        continued = {
            stream: (self.task.continued(x, self._memories.get(stream)), y)
            for stream, (x, y) in self._streams(batch).items()
        }
        return continued if isinstance(batch, dict) else next(iter(continued.values()))

    def _remember(self, batch: Any) -> None:
        for stream, (x, _) in self._streams(batch).items():
            if (memory := self.task.remembered(x)) is not None:
                self._memories[stream] = memory

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._remember(batch)
        super().on_train_batch_end(outputs, batch, batch_idx)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._remember(batch)

    def on_validation_start(self) -> None:
        self._memories.pop(_VALIDATION, None)

    def on_train_epoch_end(self) -> None:
        self._memories = {}
        super().on_train_epoch_end()

    def state(self) -> dict[str, Any]:
        alone = self._trainer is None or self.trainer.world_size == 1
        memories = {
            stream: [memory] if alone else list(self.all_gather(memory)) for stream, memory in self._memories.items()
        }
        return {**super().state(), "memories": memories}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        memories = state["memories"]
        self._memories = {stream: ranks[self.global_rank].to(self.device) for stream, ranks in memories.items()}
