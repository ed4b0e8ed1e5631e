import itertools
import multiprocessing

import pytest
import pytorch_lightning as pl
import torch
from torchvision.transforms import v2

from lightning_nas.data.loaders import Loader, SearchLoader
from lightning_nas.data.samples import Arrays, Transform
from lightning_nas.data.streams import Batches, InOrder, KeyedDataset, Stream
from lightning_nas.errors import DataError


def part(name, length, batch_size=4, rank=0, world_size=1):
    images = torch.randint(0, 256, (length, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    crop = Transform(v2.RandomCrop(6, padding=2), v2.ToDtype(torch.float32, scale=True))
    data = KeyedDataset(Arrays(images, torch.arange(length)), crop, 0, name)
    return Batches(data, Stream(length, batch_size, 0, name, rank, world_size))


def search(position=lambda: 0, **options):
    return SearchLoader(part("weights", 22), part("arch", 14), position, **options)


def flat(batches):
    """Keys and tensors of batches, as plain values that compare bit for bit."""
    return [{key: (x.numpy().tobytes(), tuple(y.tolist())) for key, (x, y) in batch.items()} for batch in batches]


def test_batch_by_batch_gives_both_parts_for_one_pass_of_the_weights():
    epochs = [list(search(lambda e=e: 5 * e)) for e in range(3)]
    assert [len(epoch) for epoch in epochs] == [5, 5, 5] == [len(search())] * 3
    assert all(list(batch) == ["weights", "arch"] for epoch in epochs for batch in epoch)
    for epoch in epochs:
        seen = [label for batch in epoch for label in batch["weights"][1].tolist()]
        assert len(set(seen)) == 20
    arch = [batch["arch"][1].tolist() for epoch in epochs for batch in epoch]
    for start in (0, 3, 6, 9):  # it goes round every three batches, whatever the epochs
        assert len(set(itertools.chain(*arch[start : start + 3]))) == 12


def test_epoch_by_epoch_gives_first_all_weights_and_then_all_arch_batches():
    for epoch in range(2):
        batches = list(search(lambda epoch=epoch: 8 * epoch, alternate="epoch"))
        assert [list(batch) for batch in batches] == [["weights"]] * 5 + [["arch"]] * 3
        expected = [part("weights", 22)[5 * epoch + i][1] for i in range(5)]
        expected += [part("arch", 14)[3 * epoch + i][1] for i in range(3)]
        assert all(next(iter(b.values()))[1].equal(y) for b, y in zip(batches, expected, strict=True))


def test_without_an_arch_part_there_are_weights_batches_alone():
    for alternate in ("batch", "epoch"):
        batches = list(SearchLoader(part("weights", 22), None, alternate=alternate))
        assert [list(batch) for batch in batches] == [["weights"]] * 5


@pytest.mark.parametrize("alternate", ["batch", "epoch"])
def test_from_every_position_comes_the_rest_of_its_epoch(alternate):
    run = [batch for e in range(2) for batch in flat(search(lambda e=e: e * len(search(alternate=alternate)),
                                                            alternate=alternate))]  # fmt: skip
    length = len(run) // 2
    for t in range(2 * length):
        rest = flat(search(lambda t=t: t, alternate=alternate))
        assert rest == run[t : (t // length + 1) * length]


@pytest.mark.parametrize("alternate", ["batch", "epoch"])
def test_workers_change_no_bit_when_iteration_stops_and_moves(alternate):
    position = [0]
    loader = search(lambda: position[0], alternate=alternate, num_workers=2)
    for start in (0, 2, len(loader), 2 * len(loader) + 3):
        position[0] = start
        assert flat(loader) == flat(search(lambda start=start: start, alternate=alternate))
        assert flat(itertools.islice(loader, 1)) == flat(
            itertools.islice(search(lambda start=start: start, alternate=alternate), 1)
        )


def test_the_ranks_share_the_batches_of_one_process():
    def labels(batch_size, rank, world_size):
        weights, arch = (part(n, k, batch_size, rank, world_size) for n, k in (("weights", 22), ("arch", 14)))
        return [{k: y.tolist() for k, (_, y) in batch.items()} for batch in SearchLoader(weights, arch)]

    for both, first, second in zip(labels(4, 0, 1), labels(2, 0, 2), labels(2, 1, 2), strict=True):
        assert both == {key: first[key] + second[key] for key in both}


@pytest.mark.parametrize("limit", [3, 0.4, 50, 1.0])
@pytest.mark.parametrize("alternate", ["batch", "epoch"])
def test_under_a_limit_epochs_are_equally_long_and_no_batch_is_lost(limit, alternate):
    full = len(search(alternate=alternate))
    expected = min(limit, full) if isinstance(limit, int) else int(full * limit)
    seen = {"weights": [], "arch": []}
    for epoch in range(4):
        loader = search(lambda e=epoch: e * expected, alternate=alternate, limit=limit)
        assert len(loader) == full
        batches = list(loader)
        assert len(batches) == expected
        for batch in batches:
            for key, (_, y) in batch.items():
                seen[key].append(y.tolist())
    for key, size in (("weights", 22), ("arch", 14)):
        assert seen[key] == [part(key, size)[t][1].tolist() for t in range(len(seen[key]))]


def test_iteration_does_not_touch_the_global_generators():
    torch.manual_seed(0)
    expected = torch.rand(2).tolist()
    torch.manual_seed(0)
    first = torch.rand(()).item()
    list(search())
    assert [first, torch.rand(()).item()] == expected


class Broken(Arrays):
    def __getitem__(self, index):
        raise DataError(f"image {index} is broken")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_data_error_of_a_worker_is_one_line_and_ends_the_workers(num_workers):
    data = KeyedDataset(Broken(torch.zeros(4), torch.zeros(4)), Transform(torch.clone), 0, "val")
    loader = Loader(Batches(data, InOrder(4, 2)), num_workers=num_workers)
    others = set(multiprocessing.active_children())
    with pytest.raises(DataError, match=r"^image 0 is broken$"):
        list(loader)
    assert not set(multiprocessing.active_children()) - others


class Recorder(pl.LightningModule):
    """Counts its batches as the training modules do, and keeps what came."""

    def __init__(self, alternate, stop_at=None, num_workers=0):
        super().__init__()
        self.automatic_optimization = False
        self.alternate, self.stop_at, self.num_workers = alternate, stop_at, num_workers
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.position, self.seen = 0, []

    def train_dataloader(self):
        options = {"limit": self.trainer.limit_train_batches, "num_workers": self.num_workers}
        self.loader = search(lambda: self.position, alternate=self.alternate, **options)
        self.workers = []
        return self.loader

    def on_train_batch_start(self, batch, batch_idx):
        if self.position == self.stop_at:
            self.trainer.save_checkpoint(f"{self.trainer.default_root_dir}/stop.ckpt")

    def training_step(self, batch, batch_idx):
        if self.num_workers:
            self.workers = self.loader._iterator._workers
        self.seen.append((self.current_epoch, batch_idx, flat([batch])))
        self.optimizers().step()  # Lightning warns by the number of steps

    def on_train_batch_end(self, *_):
        self.position += 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["position"] = self.position

    def on_load_checkpoint(self, checkpoint):
        self.position = checkpoint["position"]


def fit(module, folder, epochs=3, ckpt=None, **flags):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=epochs, default_root_dir=folder, enable_model_summary=False, **quiet, **flags)
    trainer.fit(module, ckpt_path=ckpt, weights_only=True if ckpt else None)
    return module.seen


@pytest.mark.parametrize(("alternate", "length"), [("batch", 5), ("epoch", 8)])
def test_a_trainer_sees_every_batch_of_every_epoch_in_both_orders(alternate, length, tmp_path):
    seen = fit(Recorder(alternate), tmp_path)
    assert [(epoch, i) for epoch, i, _ in seen] == [(epoch, i) for epoch in range(3) for i in range(length)]
    expected = [flat(search(lambda e=e: length * e, alternate=alternate)) for e in range(3)]
    assert [batch for _, _, [batch] in seen] == list(itertools.chain(*expected))


@pytest.mark.parametrize("stop_at", [0, 1, 4, 5, 8, 14])
def test_a_trainer_resumed_anywhere_sees_the_batches_it_has_not_seen(stop_at, tmp_path, recwarn):
    straight = fit(Recorder("batch", stop_at), tmp_path)
    resumed = fit(Recorder("batch"), tmp_path, ckpt=tmp_path / "stop.ckpt")
    assert resumed == straight[stop_at:]
    assert not [w for w in recwarn if "not resumable" in str(w.message)]


def test_workers_last_through_all_epochs_of_a_trainer_and_end_with_it(tmp_path):
    module, alone = Recorder("batch", num_workers=1), Recorder("batch")
    assert fit(module, tmp_path) == fit(alone, tmp_path)
    assert [worker.exitcode for worker in module.workers] == [0]


@pytest.mark.parametrize(("limit", "length"), [(3, 3), (0.5, 4)])
def test_a_trainers_limit_cuts_every_epoch_to_the_same_length(limit, length, tmp_path):
    seen = fit(Recorder("epoch"), tmp_path, limit_train_batches=limit)
    assert [(epoch, i) for epoch, i, _ in seen] == [(epoch, i) for epoch in range(3) for i in range(length)]
