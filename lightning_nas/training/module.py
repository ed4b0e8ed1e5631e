"""The part of a LightningModule that makes training resumable to the bit."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_nas.errors import ConfigError, NumericalError
from lightning_nas.training.seeding import generator, seed_everything

_STATE = "lightning_nas"


class ResumableModule(pl.LightningModule):
    """Every random number of batch ``position`` is a function of (seed, what it is for, position) alone.

    With data loaders that follow ``position`` (``lightning_nas.data``) and checkpoints taken at the start of a batch
    (:class:`~lightning_nas.training.exact.ExactCheckpoint`), a run that was stopped anywhere and resumed equals one
    that was never stopped, bit for bit.

    Args:
        seed: of everything random in the run.

    Attributes:
        position: batches seen since the run began; what indexes data and noise.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.position = 0
        self._logged: dict[str, Tensor | float] = {}

    def generator(self, stream: str) -> torch.Generator:
        """A fresh generator for ``stream`` at this batch, the same on all ranks."""
        return generator(self.seed, stream, self.position)

    def state(self) -> dict[str, Any]:
        """What must be in a checkpoint besides parameters and buffers: plain values and tensors."""
        return {"position": self.position}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.position = state["position"]

    def check_finite(self, name: str, value: Tensor) -> None:
        """Stop a run that has gone wrong before it writes anything.

        Raises:
            NumericalError: ``value`` holds NaN or infinity; names the batch and, if one is to blame, the parameter.
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

    def log_batch(self, name: str, value: Tensor | float, *, prog_bar: bool = False) -> None:
        """Log a value of this batch, to the progress bar and every logger, every ``log_every_n_steps`` batches.

        Lightning's own ``log`` writes the last value again at batches that have none, and forgets it when resuming.
        """
        if self.logging_is_due:
            self._logged[name] = value
            self.log(name, value, prog_bar=prog_bar, logger=False)

    @property
    def logging_is_due(self) -> bool:
        """Whether the values of this batch are logged."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return (self.position + 1) % every == 0

    # -- Lightning's hooks --------------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        seed_everything(self.seed, "noise", self.global_rank, self.position)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.logging_is_due:
            values = {name: float(value) for name, value in self._logged.items()} | {"epoch": self.current_epoch}
            for logger in self.trainer.loggers:
                logger.log_metrics(values, step=self.position)
        self._logged = {}
        self.position += 1

    def on_train_epoch_end(self) -> None:
        self.check_parameters()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[_STATE] = self.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if _STATE not in checkpoint:
            raise ConfigError("the checkpoint was not written by lightning_nas: it has no position in the data")
        self.load_state(checkpoint[_STATE])
