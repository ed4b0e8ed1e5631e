"""Base class of all training modules: training that resumes to the bit."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_nas.errors import ConfigError, NumericalError
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.seeding import generator, seed_everything

_STATE = "lightning_nas"
_ONE = "train"
_VALIDATION = "val"


class ResumableModule(pl.LightningModule):
    """A LightningModule whose randomness and recurrent memory are functions of its state.

    Every random number of batch ``position`` is a function of (seed, purpose, position). With data loaders that follow
    ``position`` (``lightning_nas.data``) and checkpoints taken at the start of a batch
    (:class:`~lightning_nas.training.exact.ExactCheckpoint`), a run that is stopped anywhere and resumed equals an
    uninterrupted run, bit for bit.

    A recurrent network reads each batch together with its hidden state after the previous batch of the same stream. A
    search has the streams "weights" and "arch", validation is another one; every stream starts anew with the epoch. A
    batch that is not read (an architecture step that is not due) leaves the hidden state unchanged. Hidden states are
    part of a checkpoint, for all processes. The task decides which networks have a hidden state.

    Args:
        seed: seed of all random numbers of the run.

    Attributes:
        position: number of batches since the run began; indexes data and noise.
        task: loss and metrics of the network.
    """

    task: Task

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.position = 0
        self._logged: dict[str, Tensor | float] = {}
        self._memories: dict[str, Tensor] = {}

    def generator(self, stream: str) -> torch.Generator:
        """A fresh generator for ``stream`` at this batch, the same on all ranks."""
        return generator(self.seed, stream, self.position)

    def state(self) -> dict[str, Any]:
        """The part of a checkpoint besides parameters and buffers: plain values and tensors."""
        alone = self._trainer is None or self.trainer.world_size == 1
        memories = {
            stream: [memory] if alone else list(self.all_gather(memory)) for stream, memory in self._memories.items()
        }
        return {"position": self.position, "memories": memories}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.position = state["position"]
        memories = state.get("memories", {})  # older checkpoints of trial searches have none
        self._memories = {stream: ranks[self.global_rank].to(self.device) for stream, ranks in memories.items()}

    def check_finite(self, name: str, value: Tensor) -> None:
        """Stop a run that has diverged before it writes anything.

        Raises:
            NumericalError: ``value`` holds NaN or infinity; names the batch and, if there is one, the parameter that
                is not finite.
        """
        if torch.isfinite(value).all():
            return
        culprit = next((n for n, p in self.named_parameters() if not torch.isfinite(p).all()), None)
        because = f"; the parameter {culprit} is not finite" if culprit else ""
        raise NumericalError(f"{name} is {value.detach().flatten()[0].item()} at batch {self.position}{because}")

    def check_parameters(self) -> None:
        """Stop if any parameter is not finite.

        Raises:
            NumericalError: names the batch and the parameter.
        """
        parameters = [p.detach() for p in self.parameters()]
        if parameters and not all(torch.isfinite(norm) for norm in torch._foreach_norm(parameters)):
            for name, parameter in self.named_parameters():
                if not torch.isfinite(parameter).all():
                    raise NumericalError(f"the parameter {name} is not finite at batch {self.position}")

    # -- logging ------------------------------------------------------------------------------------------------

    def log_batch(self, name: str, value: Tensor | float, *, prog_bar: bool = False) -> None:
        """Log a value of this batch, to the progress bar and every logger, every ``log_every_n_steps`` batches.

        Lightning's own ``log`` repeats the last value at batches without one, and forgets it when resuming.
        """
        if self.logging_is_due:
            self._logged[name] = value
            self.log(name, value, prog_bar=prog_bar, logger=False)

    @property
    def logging_is_due(self) -> bool:
        """Whether the values of this batch are logged."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and (self.position + 1) % every == 0

    # -- recurrent memory ---------------------------------------------------------------------------------------

    def _streams(self, batch: Any) -> dict[str, Batch]:
        if isinstance(batch, dict):
            return batch
        if not isinstance(batch, (tuple, list)):
            return {}  # the number of a trial
        return {_ONE if self.trainer.training else _VALIDATION: batch}  # type: ignore[dict-item]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        continued = {
            stream: (self.task.continued(x, self._memories.get(stream)), y)
            for stream, (x, y) in self._streams(batch).items()
        }
        if isinstance(batch, dict):
            return continued
        return next(iter(continued.values()), batch)

    def _remember(self, batch: Any) -> None:
        for stream, (x, _) in self._streams(batch).items():
            if (memory := self.task.remembered(x)) is not None:
                self._memories[stream] = memory

    # -- Lightning's hooks --------------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        seed_everything(self.seed, "noise", self.global_rank, self.position)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._remember(batch)
        if self.logging_is_due:
            values = {name: float(value) for name, value in self._logged.items()} | {"epoch": self.current_epoch}
            for logger in self.trainer.loggers:
                logger.log_metrics(values, step=self.position)
        self._logged = {}
        self.position += 1

    def on_train_epoch_end(self) -> None:
        self._memories = {}
        self.check_parameters()

    def on_validation_start(self) -> None:
        self._memories.pop(_VALIDATION, None)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._remember(batch)

    def on_validation_end(self) -> None:
        self._memories.pop(_VALIDATION, None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[_STATE] = self.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if _STATE not in checkpoint:
            raise ConfigError("the checkpoint was not written by lightning_nas: it has no position in the data")
        self.load_state(checkpoint[_STATE])
