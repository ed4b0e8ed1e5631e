import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)
from torchvision.transforms import ToTensor, v2

from lightning_nas.data.given import as_search_data
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
    data = as_search_data(module, **options)
    data.setup()
    return data


def held(batches):
    return {round(x.mean().item()) for x, _ in batches for x in x}


def test_our_own_modules_pass_through():
    digits = Digits()
    assert as_search_data(digits) is digits


def test_a_module_with_a_training_loader_alone_is_cut_into_four_parts():
    data = setup(Theirs(Noisy(0, 100)))
    assert (data.batch_size, data.num_workers, data.shape, data.num_classes) == (5, 0, (1, 8, 8), 3)
    assert sum(data.sizes.values()) == 100
    parts = [held(data.retrain_loader(lambda: 0)), held(data.val_dataloader()), held(data.test_dataloader())]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]


def test_own_parts_are_kept_whatever_the_global_generator():
    first = setup(Whole(None))
    torch.manual_seed(123)
    again = setup(Whole(None))
    assert (first.sizes["val"], first.sizes["test"]) == (20, 10)
    assert held(first.test_dataloader()) == set(range(1000, 1010))
    assert held(first.val_dataloader()) == held(again.val_dataloader())
    searched = held(batch for t in range(0, 300, 12) for b in first.search_loader("batch", lambda t=t: t)
                    for batch in b.values())  # fmt: skip
    assert searched == set(range(100)) - held(first.val_dataloader())


def test_random_transforms_are_functions_of_seed_pass_and_index():
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
    data = as_search_data(Theirs(Subset(dataset, range(10, 90))))
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


class Mixed(Noisy):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return (image.byte() if index % 2 else image), label


class Failing(Noisy):
    def __getitem__(self, index):
        return super().__getitem__(index) if index != 9 else {}["nothing"]


class Labelled(Dataset):
    """60 random images; ``image`` and ``label`` change what is given."""

    def __init__(self, image=lambda x: x, label=lambda y: y):
        self.image, self.label = image, label

    def __len__(self):
        return 60

    def __getitem__(self, index):
        return self.image(torch.rand(1, 8, 8)), self.label(index % 3)


def tensors(x, y):
    return Theirs(TensorDataset(x, y))


class Parted(Theirs):
    """Training images of one channel of 8 x 8, and other validation data."""

    def __init__(self, val):
        super().__init__(TensorDataset(X, Y))
        self.other = val

    def val_dataloader(self):
        return DataLoader(self.other, batch_size=5)


X, Y = torch.rand(50, 1, 8, 8), torch.arange(50) % 2
LOADER = r"Theirs.train_dataloader\(\)"
BAD = {
    "no loader": (pl.LightningDataModule(), r"LightningDataModule has no train_dataloader\(\)"),
    "iterable": (Theirs(Stream(), shuffle=False), rf"{LOADER} is over an IterableDataset; legal is one"),
    "dict samples": (Theirs(Dicts(0, 50)), rf"{LOADER}: sample 0 is of the type 'dict'; legal are pairs"),
    "one tensor": (Theirs(TensorDataset(X)), "sample 0 is a tuple of length 1; legal are pairs .*; there is no label"),
    "three tensors": (Theirs(TensorDataset(X, Y, Y)), "a tuple of length 3; .*; return its image and its label alone"),
    "absurd labels": (tensors(X, Y * 10**12), r"up to 1000000000000, but class 1 has no .*; number the classes from 0"),
    "no validation": (
        Parted(TensorDataset(X[:0], Y[:0])),
        "the val part .* no images; without such a part it",
    ),
    "other validation": (
        Parted(TensorDataset(X[..., :7], Y)),
        r"of two shapes .*val.* \(1, 8, 7\), .*\(1, 8, 8\);",
    ),
    "dict validation": (
        Parted(Dicts(0, 50)),
        r"val_dataloader\(\): sample 0 .*; return two of .image., .label.",
    ),
    "streamed validation": (Parted(Stream()), r"val_dataloader\(\) is over an IterableDataset; .*DataLoader\(list"),
    "regression": (tensors(X, torch.rand(50)), r"0 is a Tensor \(\) of torch.float32; .* others task=regression"),
    "soft labels": (tensors(X, torch.eye(2)[Y] * 0.9 + 0.05), r"\(2,\) of .*; of class probabilities take the argmax"),
    "several labels": (
        tensors(X, torch.ones(50, 3).long()),
        r"several labels per image, 0 or 1 for each, need task=multilabel",
    ),
    "a label a pixel": (tensors(X, X[:, 0].long()), r"one label per pixel \(segmentation\) is not supported"),
    "NaN": (tensors(X * torch.nan, Y), r"the image of sample 0 has a pixel that is NaN or infinite"),
    "two types": (Theirs(Mixed(0, 50)), r"the image of sample \d+ is \S+ ?\S*, others are .*; give all one type"),
    "failing": (Theirs(Failing(0, 50)), r"the data set fails at sample 9: .KeyError: .nothing"),
    "too large batches": (
        Theirs(Noisy(0, 50), batch_size=99),
        r"one batch of 99; lower batch_size \(of your DataLoader",
    ),
    "names": (
        Theirs(Labelled(label="abc".__getitem__)),
        r"of the type 'str'; legal is .*; number the classes, e.g. by",
    ),
    "other integers": (tensors((X * 9).int(), Y), r"image of sample \d+ is a Tensor .*int32; .* .*ToTensor\(\)"),
    "PIL images": (Theirs(Labelled(image=v2.ToPILImage())), r"image of sample \d+ is of the type 'Image'; .*ToTensor"),
    "negative": (tensors(X, Y - 1), rf"{LOADER} has negative labels"),
    "channels last": (
        tensors(torch.rand(50, 28, 9, 3), Y),
        r"shape \(28, 9, 3\); legal is \(channels, height.*; image.permute\(2, 0, 1\) puts",
    ),
    "channels last, few pixels": (
        tensors(torch.rand(50, 8, 12, 3), Y),
        r"shape \(8, 12, 3\); legal is \(channels, height, width\), at most 4 channels where height and width differ",
    ),
    "channels last, square": (tensors(torch.rand(50, 8, 8, 3), Y), r"shape \(8, 8, 3\); legal is \(channels, height"),
    "vectors": (tensors(torch.rand(50, 64), Y), r"the images have the shape \(64,\); legal is"),
    "one class": (tensors(X, Y * 0), r"all training images are of one class"),
    "batches": (Theirs(TensorDataset(X, Y), batch_size=None, shuffle=False), r"has no batch size; set batch_size=N"),
    "changing": (Theirs(Labelled(label=lambda y: int(torch.randint(9, ())))), r"label of a sample must not change"),
}


def test_no_message_advises_keys_that_own_data_do_not_have():
    for module, _ in BAD.values():
        with pytest.raises(DataError) as error:
            list(setup(module).retrain_loader(lambda: 0, batch_size=1000))
        assert "command line" not in str(error.value)


@pytest.mark.parametrize("case", BAD)
def test_modules_that_cannot_be_used_are_one_line(case):
    module, message = BAD[case]
    with pytest.raises(DataError, match=message) as error:
        list(setup(module).retrain_loader(lambda: 0))
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "label",
    [
        *(np.int16, np.asarray, torch.tensor, lambda y: torch.tensor([y]), lambda y: np.array([y], np.uint8)),
        *(lambda y: torch.eye(3)[y], lambda y: np.eye(3, dtype=int)[y]),
    ],
)
def test_labels_may_be_any_one_integer(label):
    data = setup(Theirs(Labelled(label=label)))
    assert data.num_classes == 3
    assert next(iter(data.test_dataloader()))[1].dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8])
def test_images_of_every_type_are_float32_from_0_to_1(dtype):
    pixels = torch.arange(256).reshape(16, 16).repeat(60, 1, 1)
    images = pixels.byte() if dtype == torch.uint8 else (pixels / 255).to(dtype)
    x, _ = next(iter(setup(tensors(images[:, None], torch.arange(60) % 2)).test_dataloader()))
    image = ToTensor()(images[0].numpy()) if dtype == torch.uint8 else images[:1].float()
    assert x.dtype == torch.float32
    assert torch.equal(x, image.expand_as(x))


def test_numpy_images_and_images_without_channel_are_taken():
    x, _ = next(iter(setup(Theirs(Labelled(image=lambda x: x[0].double().numpy()))).test_dataloader()))
    assert (x.shape[1:], x.dtype) == ((1, 8, 8), torch.float32)


def test_labels_that_differ_from_the_list_are_read_one_by_one():
    class Coarse(Noisy):
        targets = tuple(range(100))

        def __getitem__(self, index):
            return torch.zeros(1, 8, 8), index // 50

    assert setup(Theirs(Coarse(0, 100))).num_classes == 2


def test_the_size_of_the_batches_of_a_sampler_of_ones_own_is_taken():
    class Own(Sampler):
        def __iter__(self):
            return iter(torch.randperm(100).split(10))

        def __len__(self):
            return 10

    data = setup(Theirs(Noisy(0, 100), batch_size=1, shuffle=False, batch_sampler=Own()))
    assert data.batch_size == 10
    assert any("does not use its Own" in doubt for doubt in data.doubts)


def test_the_batch_size_of_a_batch_sampler_is_taken():
    sampler = BatchSampler(RandomSampler(range(100)), batch_size=7, drop_last=True)
    data = setup(Theirs(Noisy(0, 100), batch_size=1, shuffle=False, batch_sampler=sampler))
    assert data.batch_size == 7


def test_a_subset_sampler_chooses_samples():
    class Sampled(Theirs):
        def train_dataloader(self):
            return DataLoader(self.train, batch_size=5, sampler=SubsetRandomSampler(range(20, 100)))

        def val_dataloader(self):
            return [DataLoader(self.train, batch_size=5, sampler=SubsetRandomSampler(range(20)))]

    data = setup(Sampled(Noisy(0, 100, noise=False)))
    assert held(data.val_dataloader()) == set(range(20))
    assert sum(data.sizes.values()) == 100


def test_settings_of_the_loader_are_kept():
    class Later(Theirs):
        """Has its data after ``setup``, a list of no validation loaders, and no test loader."""

        def setup(self, stage):
            self.ready = self.train

        def train_dataloader(self):
            return DataLoader(self.ready, batch_size=5, num_workers=1, pin_memory=False, persistent_workers=True)

        def val_dataloader(self):
            return []

    data = setup(Later(Noisy(0, 100)))
    inner = data.retrain_loader(lambda: 0)._loader
    assert (inner.num_workers, inner.pin_memory, inner.persistent_workers) == (1, False, True)
    assert (data.sizes["val"], data.sizes["test"]) == (10, 20)
    data = setup(Theirs(Noisy(0, 100), num_workers=1))
    assert not data.retrain_loader(lambda: 0)._loader.persistent_workers


def test_a_warning_names_what_is_not_used(caplog):
    class Hooked(Theirs):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch

    sampler = WeightedRandomSampler([1.0] * 100, 100)
    setup(Hooked(Noisy(0, 100), shuffle=False, sampler=sampler, collate_fn=list))
    assert "does not use its on_after_batch_transfer, WeightedRandomSampler, collate_fn" in caplog.text
    caplog.clear()
    setup(Theirs(Noisy(0, 100)))
    assert "does not use" not in caplog.text


def test_a_warning_counts_training_samples_in_the_validation_loader(caplog):
    dataset = Noisy(0, 100)
    loaders = (DataLoader(Subset(dataset, range(60)), batch_size=5), DataLoader(Subset(dataset, range(50, 100))))
    as_search_data(loaders).setup()
    assert "the val DataLoader: 10 samples are training samples too" in caplog.text


def test_prepare_data_is_called_once_before_setup():
    class Downloading(Theirs):
        calls = ()

        def prepare_data(self):
            self.calls += ("prepare_data",)

        def setup(self, stage):
            self.calls += ("setup",)

    module = Downloading(Noisy(0, 100))
    data = setup(module)
    data.prepare_data()
    assert module.calls[0] == "prepare_data"
    assert module.calls.count("prepare_data") == 1
