import pytest
import pytorch_lightning as pl
import torch

from lightning_nas.data.reader import SearchReader
from lightning_nas.tasks.classification import Classification
from lightning_nas.training.module import ResumableModule


class Network(ResumableModule):
    """Not a search."""

    task = Classification()

    def __init__(self):
        super().__init__(seed=0)
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained, self.validated, self.tested = [], set(), set()

    def training_step(self, batch, batch_idx):
        self.trained.append(list(batch) if isinstance(batch, dict) else "xy")

    def validation_step(self, batch, batch_idx):
        self.validated |= set(batch[1].tolist())

    def test_step(self, batch, batch_idx):
        self.tested |= set(batch[1].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Search(Network, SearchReader):
    def __init__(self, alternate):
        super().__init__()
        self.alternate = alternate


class Plain(pl.LightningModule):
    """An ordinary LightningModule without a position."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0].numpy().tobytes())
        return self.weight * 0

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def quiet(folder):
    return pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        use_distributed_sampler=False,
    )


@pytest.mark.parametrize(
    ("module", "epoch"),
    [
        (Search("batch"), [["weights", "arch"]] * 28),
        (Search("epoch"), [["weights"]] * 28 + [["arch"]] * 7),
        (Search(None), [["weights"]] * 36),
        (Network(), ["xy"] * 90),
    ],
)
def test_a_trainer_gets_the_loader_its_module_asks_for(data, module, epoch, tmp_path):
    images = data(train=400, test=50, classes=10, search_classes=4)
    trainer = quiet(tmp_path)
    trainer.fit(module, datamodule=images)
    trainer.test(module, datamodule=images, verbose=False)
    assert module.trained == epoch * 2
    assert module.validated == set(range(4 if isinstance(module, Search) else 10))
    assert module.tested == set(range(10))


def test_an_ordinary_module_gets_new_batches_in_every_epoch(data, tmp_path):
    module, images = Plain(), data(train=100)
    quiet(tmp_path).fit(module, datamodule=images)
    assert module.seen == [images.retrain_loader(lambda: 0).batches[t][0].numpy().tobytes() for t in range(44)]
    assert len(set(module.seen)) == 44
