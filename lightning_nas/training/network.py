"""Training one stand-alone network from scratch, resumable to the bit like a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.errors import ConfigError, InputError
from lightning_nas.ops.cells import DropPath
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.module import ResumableModule


class NetworkTraining(ResumableModule):
    """A network, its task, one optimiser.

    Args:
        network: what to train.
        task: what for.
        num_classes: width of the classifier, for the metrics.
        seed: of everything random.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning-rate schedule; stepped once an epoch.
        clip: largest gradient norm, or None.
        auxiliary_weight: of the loss of the network's auxiliary classifier; 0 for a network without one.
        drop_path: probability with which paths are dropped in the end, rising linearly from 0.
        drop_path_interval: by which it rises: "epoch" as DARTS, whose first has 0 and whose last is one short of the
            end, or "step" as NASNet, whose last step has it all.

    Raises:
        InputError: paths are to be dropped and the network has none that can be.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        num_classes: int,
        *,
        seed: int,
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        clip: float | None = None,
        auxiliary_weight: float = 0.0,
        drop_path: float = 0.0,
        drop_path_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__(seed)
        self.network, self.task, self.clip = network, task, clip
        self.auxiliary_weight, self.drop_path, self.drop_path_interval = auxiliary_weight, drop_path, drop_path_interval
        self._paths = [module for module in network.modules() if isinstance(module, DropPath)]
        if drop_path and not self._paths:
            raise InputError(f"paths cannot be dropped in a {type(network).__name__}; leave drop_path=0")
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self._metrics = task.metrics(num_classes)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        for path in self._paths:
            path.probability = self.drop_path * self._elapsed()

    def _elapsed(self) -> float:
        """The share of the training that counts as past."""
        if self.drop_path_interval == "step":
            return min((self.global_step + 1) / self.trainer.estimated_stepping_batches, 1.0)
        return self.current_epoch / (self.trainer.max_epochs or 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._loss(self.network(batch[0]), batch)
        self.check_finite("train/loss", loss)
        self.log_batch("train/loss", loss.detach(), prog_bar=True)
        return loss

    def _loss(self, output: Any, batch: Batch) -> Tensor:
        if not self.auxiliary_weight:
            return self.task.training_loss(output, batch)
        logits, auxiliary = output
        return self.task.training_loss(logits, batch) + self.auxiliary_weight * self.task.loss(auxiliary, batch[1])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch
        output = self.network(x)
        self._metrics.update(output, y)
        self.log("val/loss", self.task.loss(output, y), sync_dist=True, batch_size=len(y))

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self._metrics.compute().items()}, prog_bar=True)
        self._metrics.reset()

    def configure_optimizers(self) -> Any:
        optimizer = self._make_optimizer(list(self.network.parameters()))
        if self._make_scheduler is None:
            return optimizer
        return [optimizer], [self._make_scheduler(optimizer)]

    def configure_callbacks(self) -> list[pl.Callback]:
        """No callbacks; the first hook that sees the trainer, for flags that would be ignored."""
        for flag, neutral, ours in (
            ("gradient_clip_val", None, "use retrain.clip"),
            ("accumulate_grad_batches", 1, "use another retrain.batch_size"),
        ):
            if getattr(self.trainer, flag) != neutral:
                raise ConfigError(f"Trainer({flag}=...) has no meaning when a network is retrained; {ours}")
        return []

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        if self.clip is not None:
            self.clip_gradients(optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm")


def quiet_trainer(epochs: int, **options: Any) -> pl.Trainer:
    """A Trainer for one process that shows and writes nothing: for short trainings inside a longer run."""
    return pl.Trainer(
        max_epochs=epochs,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )
