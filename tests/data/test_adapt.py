import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, random_split
from torchvision.transforms import v2

from lightning_nas.data.adapt import adapt
from lightning_nas.data.images import Digits
from lightning_nas.errors import DataError


class Noisy(Dataset):
    """Image i is full of i, plus noise from the global generator, as a user's augmentation would add."""

    def __init__(self, start, count, noise=True):
        self.start, self.count, self.noise = start, count, v2.GaussianNoise(sigma=0.1, clip=False) if noise else None

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = torch.full((1, 8, 8), float(self.start + index))
        return (self.noise(image) if self.noise else image), (self.start + index) % 3


class Theirs(pl.LightningDataModule):
    def __init__(self, train, **loader):
        super().__init__()
        self.train, self.loader = train, {"batch_size": 5, "shuffle": True} | loader

    def train_dataloader(self):
        return DataLoader(self.train, **self.loader)


class Whole(Theirs):
    """With all three parts, the validation part split off without a generator."""

    def setup(self, stage=None):
        if stage == "fit":
            self.train, self.val = random_split(Noisy(0, 100, noise=False), [80, 20])
        else:
            self.held_out = Noisy(1000, 10, noise=False)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=5)

    def test_dataloader(self):
        return DataLoader(self.held_out, batch_size=5)


def setup(module, **options):
    data = adapt(module, **options)
    data.setup()
    return data


def held(batches):
    return {round(x.mean().item()) for x, _ in batches for x in x}


def test_our_own_modules_pass_through():
    digits = Digits()
    assert adapt(digits) is digits


def test_a_module_with_a_training_loader_alone_is_cut_into_four_parts():
    data = setup(Theirs(Noisy(0, 100)))
    assert (data.batch_size, data.num_workers, data.shape, data.num_classes) == (5, 0, (1, 8, 8), 3)
    assert sum(data.sizes.values()) == 100
    parts = [held(data.retrain_loader(lambda: 0)), held(data.val_dataloader()), held(data.test_dataloader())]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]


def test_their_parts_are_kept_and_do_not_depend_on_the_state_of_the_global_generator():
    first = setup(Whole(None))
    torch.manual_seed(123)
    again = setup(Whole(None))
    assert (first.sizes["val"], first.sizes["test"]) == (20, 10)
    assert held(first.test_dataloader()) == set(range(1000, 1010))
    assert held(first.val_dataloader()) == held(again.val_dataloader())
    searched = held(batch for t in range(0, 300, 12) for b in first.search_loader("batch", lambda t=t: t)
                    for batch in b.values())  # fmt: skip
    assert searched == set(range(100)) - held(first.val_dataloader())


def test_their_random_transforms_are_functions_of_seed_pass_and_index():
    def batches(**options):
        data = setup(Theirs(Noisy(0, 100)), **options)
        return [x.numpy().tobytes() for b in data.search_loader("epoch", lambda: 0) for x, _ in b.values()]

    first = batches()
    torch.manual_seed(123)
    assert batches() == first
    assert batches(num_workers=2) == first
    assert not set(batches(seed=1)) & set(first)


def test_options_win_over_their_loader():
    data = setup(Theirs(Noisy(0, 100), num_workers=2), batch_size=7, num_workers=1, val_fraction=0.3)
    assert (data.batch_size, data.num_workers, data.sizes["val"]) == (7, 1, 30)
    assert setup(Theirs(Noisy(0, 100), num_workers=2)).num_workers == 2


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_labels_are_taken_from_where_usual_data_sets_keep_them(dtype):
    class Unread(TensorDataset):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    read = []
    dataset = Unread(torch.rand(90, 1, 8, 8), (torch.arange(90) % 3).to(dtype))
    data = adapt(Theirs(torch.utils.data.Subset(dataset, range(10, 90))))
    images = data.load()
    assert images.train.labels.tolist() == [i % 3 for i in range(10, 90)]
    assert len(read) <= 20, "a few are compared"
    data.setup()
    assert sum(data.sizes.values()) == 80


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(1, 8, 8), 0


class Dicts(Noisy):
    def __getitem__(self, index):
        return {"image": super().__getitem__(index)[0], "label": 0}


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (pl.LightningDataModule(), r"LightningDataModule has no train_dataloader\(\)"),
        (
            Theirs(Stream(), shuffle=False),
            r"Theirs.train_dataloader\(\) must give one torch DataLoader over a map-style",
        ),
        (Theirs(Dicts(0, 50)), r"train_dataloader\(\) must give pairs .*; sample 0 is not one"),
        (Theirs(TensorDataset(torch.rand(50, 1, 8, 8), torch.rand(50))), r"must give pairs .* integer label"),
        (Theirs(TensorDataset(torch.ones(50, 1, 8, 8).byte(), torch.arange(50) % 2)), r"pairs \(float image tensor"),
        (Theirs(TensorDataset(torch.rand(50, 1, 8, 8), torch.arange(50) % 2 - 1)), r"has negative labels"),
        (Theirs(TensorDataset(torch.rand(50, 1, 8, 9), torch.arange(50) % 2)), r"shape \(1, 8, 9\); legal is"),
        (
            Theirs(TensorDataset(torch.rand(50, 1, 8, 8), torch.zeros(50).long())),
            r"all training images are of one class",
        ),
    ],
)
def test_modules_that_cannot_be_used_are_one_line(module, message):
    with pytest.raises(DataError, match=message) as error:
        setup(module)
    assert str(error.value).isprintable()
