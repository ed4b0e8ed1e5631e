import hashlib
from itertools import chain

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler
from torchvision.transforms import v2

from lightning_nas.data.samples import Arrays, Transform
from lightning_nas.data.streams import Balanced, InOrder, KeyedDataset, Stream
from lightning_nas.errors import DataError


def test_every_pass_is_the_permutation_of_its_own_key():
    stream = Stream(length=10, batch_size=3, seed=5, name="arch")
    for number in range(3):
        digest = hashlib.blake2b(f'[5, "arch", {number}]'.encode(), digest_size=8).hexdigest()
        order = torch.randperm(10, generator=torch.Generator().manual_seed(int(digest, 16) // 2)).tolist()
        batches = [stream.batch(t) for t in range(number * 3, number * 3 + 3)]
        assert batches == [[(number, index) for index in order[i : i + 3]] for i in (0, 3, 6)]


def test_a_batch_is_a_function_of_seed_name_and_number():
    def take(seed, name, numbers):
        stream = Stream(length=64, batch_size=4, seed=seed, name=name)
        return {t: stream.batch(t) for t in numbers}

    forward, backward = take(0, "weights", range(40)), take(0, "weights", reversed(range(40)))
    assert forward == backward
    for other in (take(1, "weights", range(40)), take(0, "arch", range(40))):
        assert all(forward[t] != other[t] for t in range(40))


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_batches_of_all_ranks_make_the_batch_of_one_process(world_size):
    alone = Stream(length=50, batch_size=4 * world_size, seed=0, name="weights")
    ranks = [Stream(50, 4, 0, "weights", rank, world_size) for rank in range(world_size)]
    for t in range(3 * alone.batches_per_pass):
        assert list(chain.from_iterable(stream.batch(t) for stream in ranks)) == alone.batch(t)


def test_a_part_smaller_than_a_batch_is_refused_by_name_and_numbers():
    with pytest.raises(DataError, match=r"the arch part has 7 samples, fewer than one batch of 8; lower"):
        Stream(length=7, batch_size=8, seed=0, name="arch")
    with pytest.raises(DataError, match=r"8 samples, fewer than one batch of 8 on each of 2 processes"):
        Stream(length=8, batch_size=8, seed=0, name="arch", world_size=2)


LABELS = torch.tensor([0] * 70 + [1] * 20 + [4] * 7 + [2] * 3)


def keys_of(number, **options):
    order = Balanced(Stream(length=100, batch_size=10, seed=3, name="weights", **options), LABELS)
    return [key for t in range(10 * number, 10 * number + 10) for key in order.batch(t)]


def test_classes_come_equally_often_and_no_sample_more_often_than_it_must():
    first, second = keys_of(0), keys_of(1)
    for keys in (first, second):
        assert len(set(keys)) == 100, "what comes again is augmented anew"
        indices = torch.tensor([index for _, index in keys])
        assert torch.bincount(LABELS[indices])[[0, 1, 2, 4]].tolist() == [25] * 4
        times = torch.bincount(indices, minlength=100)
        for label, (least, most) in {0: (0, 1), 1: (1, 2), 4: (3, 4), 2: (8, 9)}.items():
            assert (int(times[label == LABELS].min()), int(times[label == LABELS].max())) == (least, most)
    assert {index for _, index in first if index < 70} != {index for _, index in second if index < 70}
    assert keys_of(1) == second
    assert not {number for number, _ in first} & {number for number, _ in second}


def test_balanced_ranks_share_a_pass():
    alone = Balanced(Stream(100, 20, 3, "weights"), LABELS)
    ranks = [Balanced(Stream(100, 10, 3, "weights", rank, 2), LABELS) for rank in range(2)]
    for t in range(12):
        assert list(chain.from_iterable(order.batch(t) for order in ranks)) == alone.batch(t)


@pytest.mark.parametrize(("length", "world_size"), [(10, 1), (10, 3), (2, 4), (12, 2)])
def test_in_order_serves_what_torch_serves(length, world_size):
    for rank in range(world_size):
        sampler = DistributedSampler(range(length), world_size, rank, shuffle=False)
        expected = [batch.tolist() for batch in DataLoader(range(length), batch_size=4, sampler=sampler)]
        order = InOrder(length, 4, rank, world_size)
        assert [[index for _, index in order.batch(t)] for t in range(order.batches_per_pass)] == expected


@pytest.fixture
def augmented():
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    step = v2.Compose([v2.RandomCrop(8, padding=3), v2.RandomHorizontalFlip()])
    transform = Transform(step, v2.Normalize([100.0] * 3, [50.0] * 3))
    arrays = Arrays(images.float(), torch.arange(20))
    return lambda seed=0, name="weights": KeyedDataset(arrays, transform, seed, name)


def test_a_batch_is_its_samples_stacked(augmented):
    keys = [(2, 5), (0, 3), (2, 5), (1, 19)]
    images, labels = augmented().batch(keys)
    assert labels.tolist() == [5, 3, 5, 19]
    assert images.equal(torch.stack([augmented()[key][0] for key in keys]))


def test_augmentation_is_torchvisions_seeded_by_the_sample_key(augmented):
    data = augmented()
    digest = hashlib.blake2b(b'[0, "weights", 2, 5]', digest_size=8).hexdigest()
    with torch.random.fork_rng():
        torch.manual_seed(int(digest, 16) // 2)
        expected = data.transform.image(data.samples.images[5])
    assert data[2, 5][0].equal((expected - 100) / 50)


def test_augmentation_differs_between_passes_samples_streams_and_seeds(augmented):
    batch = [(0, i) for i in range(20)]
    first = augmented().batch(batch)[0]
    for data, keys in (
        (augmented(), [(1, i) for i in range(20)]),
        (augmented(1), batch),
        (augmented(0, "arch"), batch),
    ):
        assert (data.batch(keys)[0] != first).flatten(1).any(1).sum() > 15


def test_without_augmentation_whole_batches_equal_single_samples():
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    data = KeyedDataset(Arrays(images, torch.arange(6)), Transform(None, v2.ToDtype(torch.float32, scale=True)), 0, "a")
    taken, labels = data.batch([(0, 4), (9, 1)])
    assert taken.equal(torch.stack([data[0, 4][0], data[0, 1][0]]))
    torch.testing.assert_close(taken, images[[4, 1]] / 255)
    assert labels.tolist() == [4, 1]


def test_images_that_do_not_stack_are_one_line():
    class Ragged(Arrays):
        def __getitem__(self, index):
            return torch.zeros(1, 8, 8 + index), 0

    data = KeyedDataset(Ragged(torch.zeros(2), torch.zeros(2)), Transform(torch.clone), 0, "val")
    with pytest.raises(DataError, match=r"^the images of the val part do not make a batch: .*equal size.*$"):
        data.batch([(0, 0), (0, 1)])
