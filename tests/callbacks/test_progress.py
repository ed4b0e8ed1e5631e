"""The progress bar on a console of 80 columns."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import rich
import torch
from rich.console import Console
from rich.progress import Progress
from torch.utils.data import DataLoader

from lightning_nas.callbacks.progress import SearchProgress, metrics_line
from lightning_nas.errors import ConfigError

WIDTH = 80


class Line(pl.LightningModule):
    """A person's own module: y = w x, with long names for what it logs."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.fails = fails

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if self.fails:
            raise RuntimeError("this step fails")
        loss = (self.weight * batch).square().mean()
        self.log("train/loss", loss, prog_bar=True)
        self.log("latency/expected_MACs", torch.tensor(377464.906), prog_bar=True)
        self.log("a/quantity_with_a_very_long_name_that_fills_the_line", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/acc", torch.tensor(0.125), prog_bar=True)

    def test_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


class Recorded(SearchProgress):
    """Keeps every state that the bar is told to draw."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.states: list[tuple[float, float]] = []

    def _show(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super()._show(trainer, pl_module)
        if self._bar is not None:
            assert isinstance(self._bar, Progress)
            [task] = self._bar.tasks
            self.states.append((task.completed, task.total or 0.0))


@pytest.fixture
def printed() -> Iterator[io.StringIO]:
    """What a console of fixed width prints."""
    file, usual = io.StringIO(), rich.get_console().__dict__.copy()
    rich.get_console().__dict__.update(Console(file=file, width=WIDTH, force_terminal=False).__dict__)
    yield file
    rich.get_console().__dict__.update(usual)


def loader(batches: int) -> DataLoader[Any]:
    return DataLoader(torch.ones(batches), batch_size=1)  # type: ignore[arg-type]


def trainer(bar: SearchProgress, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", callbacks=[bar], **{"num_sanity_val_steps": 0} | quiet | options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 3 * (5 + 2)),
        ({"check_val_every_n_epoch": 2}, 3 * 5 + 2),
        ({"val_check_interval": 2}, 3 * (5 + 2 * 2)),
        ({"limit_val_batches": 0}, 3 * 5),
        ({"num_sanity_val_steps": 2}, 3 * (5 + 2)),
        ({"check_val_every_n_epoch": None, "val_check_interval": 4}, 3 * 5 + 3 * 2),
    ],
)
def test_the_bar_ends_where_its_total_is(options: dict[str, Any], expected: int, printed: io.StringIO) -> None:
    bar = Recorded()
    trainer(bar, max_epochs=3, **options).fit(Line(), loader(5), loader(2))
    done = [state[0] for state in bar.states]
    assert done == sorted(done)
    assert bar.states[-1] == (expected, expected)
    assert bar.states[0][0] == 0


def test_no_line_is_wider_than_the_terminal_or_broken(printed: io.StringIO) -> None:
    trainer(SearchProgress("search", 2, 3), max_epochs=12).fit(Line(), loader(3), loader(1))
    lines = [line for line in printed.getvalue().splitlines() if line.strip()]
    assert len(lines) == 2
    assert all(len(line) <= WIDTH for line in lines)
    assert re.fullmatch(r"search 2/3 · epoch 12/12 · \d+ s ━+ +100%", lines[0])
    assert re.fullmatch(r"  loss [\d.e-]+ · val acc 0.125 · expected MACs 377 k( · .*)?\s*", lines[1])


def test_the_time_left_stands_behind_the_epoch(printed: io.StringIO) -> None:
    seen: list[str] = []

    class Looked(Recorded):
        def on_train_batch_end(self, *args: Any, **more: Any) -> None:
            super().on_train_batch_end(*args, **more)
            assert isinstance(self._bar, Progress)
            seen.append(self._bar.tasks[0].description)

    trainer(Looked("search", 2, 3), max_epochs=2).fit(Line(), loader(3))
    assert len(seen) == 6
    assert all(re.fullmatch(r"search 2/3 · epoch \d/2 · \d+ s left", words) for words in seen)


def test_defaults_work_in_a_trainer_of_ones_own(printed: io.StringIO) -> None:
    trainer(SearchProgress(), max_epochs=1).fit(Line(), loader(3), loader(1))
    assert printed.getvalue().startswith("search · epoch 1/1 · ")


def test_a_fit_without_end_has_no_percentage(printed: io.StringIO) -> None:
    trainer(SearchProgress(), max_epochs=-1, max_steps=4).fit(Line(), loader(3))
    assert "search · epoch 2 · " in printed.getvalue()
    assert "%" not in printed.getvalue()


def test_testing_and_validating_have_bars_of_their_own(printed: io.StringIO) -> None:
    bar = SearchProgress()
    trainer(bar, max_epochs=1).test(Line(), [loader(3), loader(2)], verbose=False)
    trainer(bar, max_epochs=1).validate(Line(), loader(4), verbose=False)
    first, second = [line for line in printed.getvalue().splitlines() if line.strip()]
    assert re.match(r"test · .*100%", first)
    assert re.match(r"validation · .*100%", second)


def test_a_disabled_bar_prints_nothing(printed: io.StringIO) -> None:
    bar = SearchProgress()
    bar.disable()
    trainer(bar, max_epochs=1).fit(Line(), loader(3), loader(1))
    assert printed.getvalue() == ""


def test_an_error_closes_the_bar(printed: io.StringIO) -> None:
    bar = SearchProgress()
    with pytest.raises(RuntimeError, match="this step fails"):
        trainer(bar, max_epochs=1).fit(Line(fails=True), loader(3))
    assert bar._bar is None
    Console(file=printed, width=WIDTH).print("after the error")
    assert printed.getvalue().endswith("after the error\n")


@pytest.mark.parametrize("width", range(20, 120, 7))
def test_metrics_fit_at_any_width(width: int) -> None:
    metrics = {f"group/quantity_{i}": 10.0**i for i in range(-4, 12)}
    line = metrics_line(metrics, width)
    assert len(line) <= width
    assert line.count(" · ") + 1 == len(re.findall("group quantity", line)) or not line


def test_a_number_beyond_the_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="number=4 is beyond of=3"):
        SearchProgress("search", 4, 3)
