"""Strategies are trained by a plain Trainer, on ordinary data, with the bits of the command's Trainer."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch.utils.data import DataLoader, TensorDataset

from lightning_nas.callbacks.rank_check import RankCheck
from lightning_nas.cli.command import conf_dir
from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError, DataError, NoStepError
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.differentiable.darts import DARTS
from lightning_nas.strategies.differentiable.fbnet import FBNet
from lightning_nas.strategies.differentiable.p_darts import PDARTS
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.strategies.one_path.mdenas import MdeNAS
from lightning_nas.strategies.one_path.spos import SPOS
from lightning_nas.testing.toys import ToyData, ToySpace, toy_images
from lightning_nas.testing.training import digest, one_thread
from lightning_nas.trials.child import Child

QUIET: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*litlogger"),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def images(count: int = 304, seed: int = 0) -> TensorDataset:
    x, y = toy_images(count, seed)
    return TensorDataset(x.float() / 255, y)


class OrdinaryData(pl.LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(images(), batch_size=32, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(images(64, 1), batch_size=32)


def trained(module: SearchModule, folder: Path, **options: Any) -> pl.Trainer:
    """Fit with as many of Lightning's defaults as possible: logger, checkpoints, sanity check, sampler."""
    given = options.pop("data", {"datamodule": OrdinaryData()})
    trainer = pl.Trainer(**{"max_epochs": 2, "default_root_dir": folder} | QUIET | options)
    trainer.fit(module, **given)
    return trainer


@pytest.mark.parametrize("given", ["datamodule", "loaders", "training loader"])
def test_a_plain_trainer_trains_on_ordinary_data(given: str, tmp_path: Path) -> None:
    own = OrdinaryData()
    data: dict[str, Any] = {"datamodule": own}
    if given == "loaders":
        data = {"train_dataloaders": own.train_dataloader(), "val_dataloaders": own.val_dataloader()}
    if given == "training loader":
        data = {"train_dataloaders": own.train_dataloader()}
    module = DARTS(ToySpace(), arch_warmup_epochs=0)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    trained(module, tmp_path, data=data)
    assert all(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert min(module.steps_taken.values()) > 0
    assert module.space.validate(module.answer()) == module.answer()


@pytest.mark.parametrize("data", [ToyData, OrdinaryData])
def test_a_plain_trainer_gives_the_bits_of_the_commands_trainer(data: type, tmp_path: Path) -> None:
    content = yaml.safe_load(Path(conf_dir(), "trainer", "default.yaml").read_text())
    ours = {key: value for key, value in content.items() if not key.startswith("_")}
    ends = []
    for number, options in enumerate(({}, ours | {"max_epochs": 2, "accelerator": "cpu", "logger": False})):
        torch.manual_seed(number)
        module = DARTS(ToySpace(), seed=3, arch_warmup_epochs=0)
        trained(module, tmp_path / str(number), data={"datamodule": data()}, **options)
        ends.append(digest(module.state_dict()))
    assert ends[0] == ends[1]


def test_the_sanity_check_changes_nothing(tmp_path: Path) -> None:
    ends = []
    for number, batches in enumerate((0, 2)):
        module = SPOS(ToySpace(), generations=1, population=2, parents=1)
        trained(module, tmp_path / str(number), num_sanity_val_steps=batches)
        ends.append((digest(module.state_dict()), digest(module.state()), module.answer()))
    assert ends[0] == ends[1]


def test_trials_are_trained_in_this_process_on_ordinary_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pytorch_lightning")
    lines: list[str] = []
    listener, lightning = logging.Handler(), logging.getLogger("pytorch_lightning")
    listener.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    lightning.addHandler(listener)
    for count in (3, 2):  # the second search in the same folder does not continue the first
        search = RandomSearch(ToySpace(), child=Child(epochs=1), trials=count)
        trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, logger=False, **QUIET)
        trainer.fit(search, datamodule=OrdinaryData())
        assert [trial.failed for trial, _ in search.history] == [False] * count
        assert search.answer() in [trial.architecture for trial, _ in search.history]
    lightning.removeHandler(listener)
    assert sum("GPU available" in line for line in lines) == 2  # of the searches, not of their children


def test_without_data_the_error_says_what_to_pass(tmp_path: Path) -> None:
    for module in (DARTS(ToySpace()), RandomSearch(ToySpace())):
        with pytest.raises(DataError, match="datamodule"):
            pl.Trainer(max_epochs=1, logger=False, default_root_dir=tmp_path, **QUIET).fit(module)


def test_sizes_of_space_and_data_must_agree(tmp_path: Path) -> None:
    class Large(OrdinaryData):
        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(TensorDataset(torch.rand(160, 1, 8, 8), torch.arange(160) % 4), batch_size=16)

        val_dataloader = train_dataloader

    with pytest.raises(DataError, match=r"1x4x4, the data has images .* 1x8x8"):
        trained(DARTS(ToySpace(), arch_warmup_epochs=0), tmp_path, data={"datamodule": Large()})


class Pairs(ToyData):
    """Search data that break the contract: pairs instead of the two parts."""

    def train_dataloader(self) -> Any:
        return self.retrain_loader(lambda: 0)


def test_a_training_batch_without_parts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a dict with 'weights' and 'arch', got a tuple"):
        trained(DARTS(ToySpace(), arch_warmup_epochs=0), tmp_path, data={"datamodule": Pairs()})


# -- answers come from steps --------------------------------------------------------------------------------


def test_an_untrained_search_has_no_answer() -> None:
    with pytest.raises(NoStepError, match=r"no weights step in 0 batches.*not trained"):
        DARTS(ToySpace()).answer()


class StopInWarmUp(pl.Callback):
    """Ends a search after two batches, as Trainer(max_time=...) may."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == 2


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (lambda: DARTS(ToySpace(), arch_warmup_epochs=1), "architecture"),
        (lambda: MdeNAS(ToySpace(), warmup_epochs=1), "architecture"),
    ],
)
def test_a_search_stopped_in_its_warm_up_has_no_answer(module: Any, kind: str, tmp_path: Path) -> None:
    made = module()
    trained(made, tmp_path, logger=False, callbacks=[StopInWarmUp()])
    with pytest.raises(NoStepError, match=f"no {kind} step in 2 batches"):
        made.answer()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: DARTS(ToySpace(), arch_warmup_epochs=2), "arch_warmup_epochs=2 .*max_epochs=2"),
        (lambda: MdeNAS(ToySpace(), warmup_epochs=3), "warmup_epochs=3 .*max_epochs=2"),
        (lambda: PDARTS(ToySpace(), stage_epochs=1), "max_epochs=2, .*stage_epochs=1, .*arch_warmup_epochs=1"),
    ],
)
def test_a_warm_up_as_long_as_the_search_is_refused(module: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        trained(module(), tmp_path, logger=False)


@pytest.mark.parametrize(
    ("module", "limit", "message"),
    [
        (
            lambda: DARTS(ToySpace(), arch_warmup_epochs=1),
            {"max_steps": 4},
            "arch_warmup_epochs=1, trainer.max_steps=4",
        ),
        (lambda: DARTS(ToySpace(), arch_warmup_epochs=1, arch_every=50), {}, "arch_every=50, .*max_epochs=2"),
        (
            lambda: DARTS(ToySpace(), arch_warmup_epochs=0, alternate="epoch"),
            {"limit_train_batches": 1},
            "two batches .*limit_train_batches=1",
        ),
        (lambda: MdeNAS(ToySpace(), warmup_epochs=1, path_batches=50), {}, "path_batches=50, .*warmup_epochs=1"),
        (lambda: FBNet(ToySpace(), table=Macs()(ToySpace()), arch_warmup_epochs=0, anneal=1e-4), {}, "anneal=null"),
    ],
)
def test_a_search_in_which_no_architecture_step_is_due_is_refused(
    module: Any, limit: dict[str, Any], message: str, tmp_path: Path
) -> None:
    checks = RankCheck(lambda *_: pytest.fail("the truth was trained first"))
    with pytest.raises(ConfigError, match=message):
        trained(module(), tmp_path, logger=False, callbacks=[checks], **limit)


def test_processes_that_would_wait_for_gradients_are_refused(tmp_path: Path) -> None:
    module = DARTS(ToySpace(), arch_warmup_epochs=0)
    with pytest.raises(ConfigError, match="ddp_find_unused_parameters_true"):
        trained(module, tmp_path, logger=False, strategy="ddp", devices=1)
    torch.distributed.destroy_process_group()


def test_a_search_needs_the_number_of_its_epochs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_epochs=-1"):
        trained(DARTS(ToySpace()), tmp_path, max_epochs=None, max_steps=5)


def test_the_data_of_the_search_are_the_adapted_ones(tmp_path: Path) -> None:
    module = DARTS(ToySpace(), arch_warmup_epochs=0)
    trained(module, tmp_path, max_epochs=1)
    assert isinstance(module.data, SearchData)
    assert set(module.data.sizes) >= {"weights", "arch", "val"}
