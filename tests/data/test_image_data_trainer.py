import pytest
import pytorch_lightning as pl
import torch


class Module(pl.LightningModule):
    def __init__(self, alternate=None):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.position, self.trained, self.validated, self.tested = 0, [], set(), set()
        if alternate:
            self.alternate = alternate

    def training_step(self, batch, batch_idx):
        self.trained.append(list(batch) if isinstance(batch, dict) else "xy")

    def on_train_batch_end(self, *_):
        self.position += 1

    def validation_step(self, batch, batch_idx):
        self.validated |= set(batch[1].tolist())

    def test_step(self, batch, batch_idx):
        self.tested |= set(batch[1].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("alternate", "epoch"),
    [
        ("batch", [["weights", "arch"]] * 28),
        ("epoch", [["weights"]] * 28 + [["arch"]] * 7),
        (None, ["xy"] * 90),
    ],
)
def test_a_trainer_gets_the_loader_its_module_asks_for(data, alternate, epoch, tmp_path):
    module, images = Module(alternate), data(train=400, test=50, classes=10, search_classes=4)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=images)
    trainer.test(module, datamodule=images, verbose=False)
    assert module.trained == epoch * 2
    assert module.validated == set(range(4 if alternate else 10))
    assert module.tested == set(range(10))
