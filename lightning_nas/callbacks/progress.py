"""The progress bar of a search, of a retraining, or of any other fit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import rich
from pydantic import PositiveInt
from pytorch_lightning.callbacks import ProgressBar
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from lightning_nas.bars import NotebookLine
from lightning_nas.errors import ConfigError
from lightning_nas.signature import Checked
from lightning_nas.strategies.multi_trial.base import TrialSearch

# metrics in the order in which they are shown, and their short names
SHORT = {
    "train/loss": "loss",
    "val/acc": "val acc",
    "val/ppl": "val ppl",
    "val/r2": "val R2",
    "val/map": "val mAP",
    "val/f1": "val F1",
    "val/miou": "val mIoU",
    "val/pixel_acc": "val pixels",
    "trial/best": "best reward",
    "trial/reward": "reward",
    "arch/loss": "arch loss",
    "latency/expected_ms": "expected ms",
    "latency/expected_MACs": "expected MACs",
    "rank/kendall_tau": "tau",
}
_LONGEST = 24  # letters of a metric's name


class SearchProgress(Checked, ProgressBar):
    """One bar for a whole stage: its name and number, the epoch or trial, the time left, and the main metrics.

    The bar counts the batches of all epochs, validation included; a search by trials counts trials. Metrics stand on
    a second line, as many as fit. Where the first validation comes after several epochs (``check_val_every_n_epoch``),
    its batches are counted from then on. ``trainer.validate``, ``test`` and ``predict`` have bars of their own.

    Args:
        stage: name of the stage.
        number: number of this stage in the run, from 1.
        of: stages of the run; with 1 no numbers are shown.

    Raises:
        ConfigError: ``number`` is larger than ``of``.

    Example:
        >>> import pytorch_lightning as pl
        >>> trainer = pl.Trainer(max_epochs=2, callbacks=[SearchProgress("retrain", 3, 3)], logger=False)
        >>> trainer.progress_bar_callback.title
        'retrain 3/3'
    """

    def __init__(self, stage: str = "search", number: PositiveInt = 1, of: PositiveInt = 1) -> None:
        if number > of:
            raise ConfigError(f"progress: number={number} is beyond of={of}; legal: 1 to {of}")
        super().__init__()
        self.title = f"{stage} {number}/{of}" if of > 1 else stage
        self._enabled = True
        self._bar: _TwoLines | _InNotebook | None = None
        self._batch = self._validated = 0  # batches done in this epoch

    def disable(self) -> None:
        """Show nothing from now on; Lightning calls it on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Undo :meth:`disable`."""
        self._enabled = True

    # -- fit ----------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._batch = self._validated = 0
        self._show(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batch = batch_idx + 1
        self._show(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.state.fn == "validate":
            self._count("validation", batch_idx, dataloader_idx, trainer.num_val_batches)
        elif not trainer.sanity_checking:
            self._validated += 1
            self._show(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            self._bar.metrics = metrics_line(self.get_metrics(trainer, pl_module), rich.get_console().width)
            self._bar.finish()
        self._close()

    def _show(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is None:
            return
        if isinstance(pl_module, TrialSearch):
            done, total = len(pl_module.history), float(pl_module.count)
            where = f"trial {done}/{pl_module.count}"
        else:
            epoch, epochs = trainer.current_epoch, trainer.max_epochs or -1
            done = int(_batches(trainer, epoch)) + self._batch + self._validated
            total = _batches(trainer, epochs) if epochs > 0 else math.inf
            where = f"epoch {epoch + 1}/{epochs}" if epochs > 0 else f"epoch {epoch + 1}"
        self._bar.metrics = metrics_line(self.get_metrics(trainer, pl_module), rich.get_console().width)
        self._bar.show(f"{self.title} · {where}", done, total)

    # -- validate, test, predict ----------------------------------------------------------------------------------

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._count("test", batch_idx, dataloader_idx, trainer.num_test_batches)

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._count("prediction", batch_idx, dataloader_idx, trainer.num_predict_batches)

    def _count(self, name: str, batch: int, loader: int, sizes: Iterable[int | float]) -> None:
        if self._bar is None:
            self._open()
        if self._bar is not None:
            before = sum(list(sizes)[:loader])
            self._bar.show(name, int(before) + batch + 1, sum(sizes))

    # -- the bar --------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._close()
        if self._enabled:
            self._bar = _InNotebook() if rich.get_console().is_jupyter else _TwoLines()
            self._bar.start()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The logged metrics, the main ones first, without top-5 accuracy and the logger's version."""
        shown = super().get_metrics(trainer, pl_module)
        first = [key for key in SHORT if key in shown]
        rest = [key for key in shown if key not in SHORT and key != "v_num" and not key.endswith("_top5")]
        return {key: shown[key] for key in first + rest}


class _Counted:
    """How far a stage is: the words of a bar, and the share that is done.

    Attributes:
        metrics: the line below the words.
    """

    def __init__(self) -> None:
        self.metrics = ""
        self._began = time.monotonic()
        self._known: int | None = None  # what was done before this process
        self._words = ""

    def words(self, words: str, done: int, total: float) -> tuple[str, str]:
        """The words with the time left, and the share; no share where ``total`` is infinite."""
        if self._known is None:
            self._known = done
        self._words = words
        if not math.isfinite(total):
            return words, ""
        left = time_left(time.monotonic() - self._began, done - self._known, total - done)
        return f"{words} · {left}" if left else words, f"{done / total:.0%}" if total else ""

    def last_words(self) -> str:
        """The words with the time taken in the place of the time left."""
        return f"{self._words} · {duration(time.monotonic() - self._began)}"


class _TwoLines(_Counted, Progress):
    """A bar with words on its left, and metrics on the line below."""

    def __init__(self) -> None:
        _Counted.__init__(self)
        words = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
        share = TextColumn("{task.fields[share]}", table_column=Column(no_wrap=True))
        console = rich.get_console()
        Progress.__init__(self, words, BarColumn(None), share, console=console, refresh_per_second=4, expand=True)
        self._task: TaskID | None = None

    def show(self, words: str, done: int, total: float) -> None:
        """Draw the state of the stage; an infinite ``total`` gives a bar without an end."""
        described, share = self.words(words, done, total)
        if self._task is None:
            self._task = self.add_task("", total=None, share="")
        known = total if math.isfinite(total) else None
        self.update(self._task, description=described, completed=done, total=known, share=share)

    def finish(self) -> None:
        """Replace the time left by the time taken."""
        if self._task is not None:
            self.update(self._task, description=self.last_words())

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.metrics:
            yield Text(self.metrics, style="italic", no_wrap=True, overflow="ellipsis")


class _InNotebook(_Counted):
    """The words and metrics of a stage in the output of a notebook's cell."""

    def __init__(self) -> None:
        super().__init__()
        self._line = NotebookLine()

    def start(self) -> None:
        """Nothing: the first state makes the output."""

    def show(self, words: str, done: int, total: float) -> None:
        """Draw the state of the stage, if the last one was drawn long enough ago."""
        described, share = self.words(words, done, total)
        self._line.draw(self._lines(f"{described} · {share}" if share else described))

    def finish(self) -> None:
        """Draw the last state, with the time taken."""
        if self._words:
            self._line.draw(self._lines(self.last_words()), now=True)

    def stop(self) -> None:
        """Nothing: the output stays."""

    def _lines(self, words: str) -> str:
        return f"{words}\n{self.metrics}".rstrip()


def _batches(trainer: pl.Trainer, epochs: int) -> float:
    """Batches of the first ``epochs`` epochs, validation included; infinite where a loader has no length."""
    training, validation = trainer.num_training_batches, sum(trainer.num_val_batches)
    every, interval = trainer.check_val_every_n_epoch, trainer.val_check_batch
    if not validation or not interval or not epochs:
        return float(epochs * training) if epochs else 0.0
    if not math.isfinite(training):
        return math.inf
    if every is None:  # validation after a number of batches, whatever the epoch
        return epochs * training + epochs * training // interval * validation
    return epochs * training + epochs // every * (training // interval) * validation


def metrics_line(metrics: Mapping[str, Any], width: int) -> str:
    """The first metrics that fit into ``width`` letters, with short names and three digits.

    >>> metrics_line({"train/loss": 0.79512, "val/acc": 0.125, "latency/expected_MACs": 377464.9}, 80)
    '  loss 0.795 · val acc 0.125 · expected MACs 377 k'
    >>> metrics_line({"train/loss": 0.79512, "val/acc": 0.125}, 20)
    '  loss 0.795'
    """
    line = ""
    for key, value in metrics.items():
        name = SHORT.get(key, key.replace("/", " ").replace("_", " "))[:_LONGEST]
        longer = f"{line} · {name} {_digits(value)}" if line else f"  {name} {_digits(value)}"
        if len(longer) > width:
            break
        line = longer
    return line


def _digits(value: Any) -> str:
    """Three digits, large numbers in thousands, millions or billions."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if 10_000 <= abs(number) >= unit:
            return f"{number / unit:.0f}{name}" if abs(number) >= 1000 * unit else f"{number / unit:.3g}{name}"
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def time_left(elapsed: float, done: int, to_come: float) -> str:
    """The time left at the mean speed so far, in words; nothing before the first step is done.

    >>> time_left(10.0, 5, 19), time_left(10.0, 0, 19)
    ('38 s left', '')
    """
    return f"{duration(elapsed / done * max(0.0, to_come))} left" if done > 0 else ""


def duration(seconds: float) -> str:
    """A duration in its two largest units.

    >>> duration(38.4), duration(128), duration(9000), duration(200_000)
    ('38 s', '2 min 8 s', '2 h 30 min', '2 d 7 h')
    """
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
