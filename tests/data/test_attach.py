import logging

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, random_split

from lightning_nas.data.attach import attach
from lightning_nas.data.given import as_search_data
from lightning_nas.data.images import Digits
from lightning_nas.data.reader import SearchReader
from lightning_nas.errors import DataError

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Recorder(pl.LightningModule, SearchReader):
    """Keeps the bytes of every batch that Lightning gives it."""

    alternate = "batch"

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.position, self.trained, self.validated = 0, [], []

    def configure_callbacks(self):
        self.data = attach(self.trainer, seed=4)
        return []

    def training_step(self, batch, batch_idx):
        self.trained.append({name: (x.numpy().tobytes(), y.tolist()) for name, (x, y) in batch.items()})

    def on_train_batch_end(self, *_):
        self.position += 1

    def validation_step(self, batch, batch_idx):
        self.validated.append((batch[0].numpy().tobytes(), batch[1].tolist()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(*loaders, trainer=None, **data):
    module = Recorder()
    trainer = trainer or quiet()
    trainer.fit(module, *loaders, **data)
    return module


def quiet():
    return pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def samples(count=100):
    rng = torch.Generator().manual_seed(count)
    return TensorDataset(torch.rand(count, 1, 8, 8, generator=rng), torch.arange(count) % 4)


class Ordinary(pl.LightningDataModule):
    """As in Lightning's documentation: downloads first, divides once, draws from the global generator."""

    def prepare_data(self):
        self.downloaded = samples()

    def setup(self, stage):
        if stage == "fit" and not hasattr(self, "parts"):
            self.parts = random_split(self.downloaded, [80, 20])

    def train_dataloader(self):
        return DataLoader(self.parts[0], batch_size=8, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.parts[1], batch_size=8)


def as_the_command_does(data):
    """Data adapted and set up before the trainer sees them."""
    data = as_search_data(data, 4)
    data.setup("fit")
    return fit(datamodule=data)


def test_an_ordinary_module_gives_the_batches_of_the_command():
    expected = as_the_command_does(Ordinary())
    torch.manual_seed(99)
    module = fit(datamodule=Ordinary())
    assert len(module.trained) == 2 * 6, "two epochs of the 51 of 80 images that are in the weights part"
    assert module.trained == expected.trained
    assert module.validated == expected.validated
    assert set(module.trained[0]) == {"weights", "arch"}
    assert module.trainer.datamodule is module.data


def test_plain_loaders_give_the_batches_of_the_command():
    train, val = DataLoader(samples(), batch_size=8, shuffle=True), DataLoader(samples(30), batch_size=8)
    expected = as_the_command_does((train, val))
    assert fit(train, val).trained == expected.trained
    assert fit(train, [val]).validated == expected.validated
    alone = fit(train_dataloaders=train)
    assert alone.trained == as_the_command_does(train).trained
    assert len(alone.validated) == 2 * 2, "ten of the training images"


def test_search_data_are_left_untouched():
    digits = Digits(batch_size=128)
    module = fit(datamodule=digits)
    assert module.data is module.trainer.datamodule is digits
    assert attach(module.trainer, 0) is digits


def test_a_second_fit_reads_its_own_data():
    trainer = quiet()
    fit(trainer=trainer, datamodule=Ordinary())
    train = DataLoader(samples(60), batch_size=4)
    trainer.fit_loop.epoch_progress.reset()
    assert fit(train, trainer=trainer).trained == as_the_command_does(train).trained


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(1, 8, 8), 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"fit\(\) was given no data; pass datamodule=.* or train_dataloaders="),
        ({"train_dataloaders": DataLoader(Stream())}, r"the train DataLoader is over an IterableDataset; legal is one"),
        (
            {"train_dataloaders": [DataLoader(samples())] * 2},
            r"train_dataloaders is a list of length 2; a search reads one",
        ),
        ({"train_dataloaders": {"a": DataLoader(samples())}}, r"data of the type 'dict' cannot be searched on; legal"),
        ({"train_dataloaders": samples()}, r"data of the type 'TensorDataset' cannot be searched on; legal are"),
        ({"datamodule": pl.LightningDataModule()}, r"LightningDataModule has no train_dataloader\(\)"),
    ],
)
def test_unusable_data_are_one_error_before_the_first_batch(given, message):
    with pytest.raises(DataError, match=message) as error:
        fit(**given)
    assert str(error.value).isprintable()


def test_a_lightning_without_the_private_hook_is_named(monkeypatch):
    trainer = quiet()
    monkeypatch.delattr(type(trainer._data_connector), "attach_data")
    with pytest.raises(DataError, match=r"Lightning .* has no way to replace the data of a fit .*as_search_data"):
        attach(trainer, 0)
