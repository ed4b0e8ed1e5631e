import logging

import numpy as np
import pytest
import torch

from lightning_nas.data.images import NPZ, Digits
from lightning_nas.errors import DataError


def start():
    return 0


def search_batches(data, **options):
    return [b for alternate in ("batch", "epoch") for b in data.search_loader(alternate, start, **options)]


def test_loaders_give_the_parts_apart_and_the_test_part_only_at_the_end(data, numbers):
    module = data()
    served = {name: set() for name in ("weights", "arch", "retrain", "val", "test")}
    for t in range(0, 300, 10):
        for batch in module.search_loader("batch", lambda t=t: t):
            for name, (x, _) in batch.items():
                served[name] |= set(numbers(x))
        for x, _ in module.retrain_loader(lambda t=t: t):
            served["retrain"] |= set(numbers(x))
    for name, loader in (("val", module.val_dataloader()), ("test", module.test_dataloader())):
        served[name] |= {number for x, _ in loader for number in numbers(x)}
    assert served["test"] == set(range(120, 150))
    assert served["weights"] | served["arch"] | served["val"] == set(range(120))
    assert served["retrain"] == served["weights"] | served["arch"]
    four = [served[name] for name in ("weights", "arch", "val", "test")]
    assert [len(part) for part in four] == list(module.sizes.values()) == [86, 22, 12, 30]
    assert sum(map(len, four)) == len(set.union(*four))


def test_labels_stay_with_their_images(data, numbers):
    module = data(crop_padding=0)
    batches = [b for batch in search_batches(module) for b in batch.values()]
    for x, y in [*batches, *module.val_dataloader(), *module.retrain_loader(start)]:
        assert [number % 3 for number in numbers(x)] == y.tolist()


def test_score_batches_are_fixed_and_hold_searched_images_only(data, numbers):
    module = data()
    training, validation = module.calibration_batches(2), module.score_batches()
    again = data().calibration_batches(3)[:2]
    assert [x.tolist() for x, _ in training] == [x.tolist() for x, _ in again]
    val = {number for x, _ in module.val_dataloader() for number in numbers(x)}
    assert {number for x, _ in validation for number in numbers(x)} == val
    assert not {number for x, _ in training for number in numbers(x)} & (val | set(range(120, 150)))
    assert len(module.calibration_batches(100)) == 100
    assert [len(module.score_batches(count)) for count in (None, 2, 100)] == [3, 2, 3]


def test_a_part_too_large_to_keep_is_read_again(data, numbers, monkeypatch):
    kept = [numbers(x) for x, _ in data().score_batches()]
    monkeypatch.setattr("lightning_nas.data.base._KEPT", 0)
    for count in (None, 2):
        read = data().score_batches(count)
        assert not isinstance(read, list)
        assert [[numbers(x) for x, _ in read] for _ in range(2)] == [kept[:count]] * 2


def test_architectures_are_scored_in_order_without_augmentation(data, numbers):
    module, plain = data(crop_padding=2, flip=True, cutout=3), data()
    for part in ("val", "arch"):
        scored = torch.cat([x for x, _ in module.score_batches(100, part)])
        seen = {n for batch in search_batches(plain) if "arch" in batch for n in numbers(batch["arch"][0])}
        assert torch.equal(scored, torch.cat([x for x, _ in plain.evaluation_loader(part)]))
        assert len({*numbers(scored)}) == len(scored) == module.sizes[part]
        assert (seen <= {*numbers(scored)}) == (part == "arch")


def test_data_depend_on_the_seed_and_on_nothing_else(data):
    def content(seed):
        module = data(seed=seed, crop_padding=2, flip=True, cutout=3)
        return [x.numpy().tobytes() for batch in search_batches(module) for x, _ in batch.values()]

    first = content(0)
    torch.manual_seed(1)
    assert content(0) == first
    assert not set(content(1)) & set(first)


def test_workers_change_no_bit_of_augmented_images(data):
    options = {"crop_padding": 2, "flip": True, "cutout": 3}
    alone, helped = (data(num_workers=workers, **options) for workers in (0, 2))
    for one, two in (
        (search_batches(alone), search_batches(helped)),
        (
            [dict(enumerate([b])) for b in alone.val_dataloader()],
            [dict(enumerate([b])) for b in helped.val_dataloader()],
        ),
    ):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert all(a[key][0].equal(b[key][0]) and a[key][1].equal(b[key][1]) for key in a)


def test_every_augmented_image_is_a_window_of_its_padded_original(data):
    module = data(crop_padding=2)
    plain = data(crop_padding=0)
    kinds = set()
    for (x, y), (original, labels) in zip(module.retrain_loader(start), plain.retrain_loader(start), strict=True):
        assert y.equal(labels)
        for image, whole in zip(x, original, strict=True):
            padded = torch.nn.functional.pad(whole, (2, 2, 2, 2))
            windows = [(i, j) for i in range(5) for j in range(5) if padded[:, i : i + 8, j : j + 8].equal(image)]
            assert len(windows) == 1
            kinds.add(windows[0])
    assert len(kinds) > 20, "all 25 windows are in use"


def test_flip_and_cutout_are_done_when_asked_for(data):
    plain = torch.cat([x for x, _ in data().retrain_loader(start)])
    flipped = torch.cat([x for x, _ in data(flip=True).retrain_loader(start)])
    mirrored = [image.equal(whole.flip(-1)) for image, whole in zip(flipped, plain, strict=True)]
    assert 0.3 < sum(mirrored) / len(mirrored) < 0.7
    assert all(m or image.equal(whole) for m, image, whole in zip(mirrored, flipped, plain, strict=True))
    cut = torch.cat([x for x, _ in data(cutout=3).retrain_loader(start)])
    changed = [(image != whole).any(0).nonzero() for image, whole in zip(cut, plain, strict=True)]
    assert sum(map(len, changed)) > 3 * len(cut)
    for image, places in zip(cut, changed, strict=True):
        assert not len(places) or (places.amax(0) - places.amin(0)).max() < 3
        assert not any(image[:, i, j].any() for i, j in places.tolist()), "the mean given is 0"


def test_normalisation_is_taken_from_the_training_images_only(write_npz, labelled):
    arrays = labelled()
    arrays["x_test"] = arrays["x_test"] * 0
    module = NPZ(path=write_npz(**arrays), flip=False, batch_size=4)
    module.setup()
    x = torch.cat([module.calibration_batches(1)[0][0]] + [x for x, _ in module.retrain_loader(start)])
    seen = torch.cat([x for x, _ in module.retrain_loader(start)])
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert x.dtype == torch.float32


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_an_epoch_and_evaluate_everything(data, numbers, world_size):
    module = data()
    searches = [list(module.search_loader("epoch", start, rank, world_size)) for rank in range(world_size)]
    for key, size in (("weights", 86), ("arch", 22)):
        shares = [[n for b in share if key in b for n in numbers(b[key][0])] for share in searches]
        assert len({n for share in shares for n in share}) == size // (4 * world_size) * 4 * world_size
    loaders = [module.evaluation_loader("test", rank, world_size) for rank in range(world_size)]
    assert len({len(loader) for loader in loaders}) == 1
    assert {n for loader in loaders for x, _ in loader for n in numbers(x)} == set(range(120, 150))


def test_searched_classes_are_numbered_from_zero_and_retraining_has_all(data, numbers):
    module = data(train=400, test=50, classes=10, search_classes=4)
    assert (module.num_classes, module.search_num_classes) == (10, 4)
    batches = [b for batch in search_batches(module) for b in batch.values()]
    batches += [*module.evaluation_loader("val", searched=True), *module.retrain_loader(start, searched=True)]
    batches += [*module.calibration_batches(3), *module.score_batches(3)]
    pairs = {(number % 10, label) for x, y in batches for number, label in zip(numbers(x), y.tolist(), strict=True)}
    assert sorted(label for _, label in pairs) == [0, 1, 2, 3], "each class has one number"
    assert sorted(pairs) == sorted(pairs, key=lambda pair: pair[1]), "in the order of the classes"
    assert {y for _, labels in module.retrain_loader(start) for y in labels.tolist()} == set(range(10))
    assert {y for _, labels in module.val_dataloader() for y in labels.tolist()} == set(range(10))
    others = [data(train=400, test=50, classes=10, search_classes=4, seed=seed).sizes for seed in range(3)]
    assert all(sizes["search_weights"] == pytest.approx(0.4 * sizes["weights"], abs=4) for sizes in others)


def test_small_classes_come_as_often_as_large_ones_in_training_alone(write_npz, labelled):
    arrays = labelled(train=400, test=50, classes=10)
    arrays["y_train"] = np.where(np.arange(400) % 20, 0, 1)
    arrays["y_test"] = arrays["y_test"] % 2
    module = NPZ(path=write_npz(**arrays), flip=False, batch_size=4, balanced=True)
    module.setup()
    parts = search_batches(module)
    for name in ("weights", "arch"):
        labels = torch.cat([batch[name][1] for batch in parts if name in batch])
        assert labels.float().mean() == pytest.approx(0.5, abs=0.06), "a pass leaves out the rest of a batch"
    retrained = torch.cat([y for _, y in module.retrain_loader(start)])
    assert retrained.float().mean() == pytest.approx(0.5, abs=0.02)
    assert torch.cat([y for _, y in module.evaluation_loader("val")]).float().mean() < 0.1
    module = NPZ(path=write_npz(**arrays), balanced=True)
    module.expect("numbers")
    with pytest.raises(DataError, match=r"balanced .* is True, but the targets are numbers; legal: false"):
        module.setup()


def test_a_search_sees_its_fraction_and_retraining_all_images(data, numbers):
    module = data(train=400, test=50, search_fraction=0.25)
    searched = {n for batch in search_batches(module) for x, _ in batch.values() for n in numbers(x)}
    calibrated = {n for x, _ in module.calibration_batches(30) for n in numbers(x)}
    retrained = {n for x, _ in module.retrain_loader(start) for n in numbers(x)}
    assert len(retrained) == 360
    assert len(searched) == pytest.approx(90, abs=4)
    assert searched < retrained
    assert calibrated <= retrained
    assert len(calibrated) <= 90
    assert not retrained & {n for x, _ in module.val_dataloader() for n in numbers(x)}
    assert module.sizes["retrain"] == 360


def test_digits_are_scikit_learns_and_their_sizes_are_in_the_log(caplog):
    module = Digits(flip=False)
    with caplog.at_level(logging.INFO, logger="lightning_nas"):
        module.setup()
        module.setup("test")
    crop = "augmentation: padded by 1 and cropped at random"
    assert caplog.messages == [f"parts of the data: weights 1006, arch 252, val 180, test 359; {crop}"]
    assert module.shape == (1, 8, 8)
    assert module.num_classes == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 23}, r"the arch part has 22 samples, fewer than one batch of 23"),
        ({"search_classes": 4}, r"search_classes .* is 4; legal are 2 to 3"),
        ({"search_classes": 1}, r"search_classes .* is 1; legal are 2 to 3"),
        ({"search_classes": 2, "batch_size": 20}, r"the arch part has 1\d samples, fewer than one batch of 20"),
        (
            {"val_fraction": 0.001},
            r"the val part has no samples; raise val_fraction \(dataset.val_fraction on the command line\)",
        ),
        ({"val_fraction": 0.9999}, r"leave none of the 120 images for training"),
        ({"image_size": 32}, r"the shape \(3, 8, 8\), that is image_size 8, but image_size .* is 32"),
        ({"channels": 1}, r"the shape \(3, 8, 8\), that is channels 3, but channels .* is 1"),
        ({"num_classes": 10}, r"from 0 to 2, that is 3 classes, but num_classes .* is 10"),
        ({"num_classes": 2}, r"from 0 to 2, that is 3 classes, but num_classes .* is 2"),
        ({"mean": [0.5]}, r"mean \(dataset.mean on the command line\) has 1 values, but the images have 3 channels"),
    ],
)
def test_options_that_do_not_fit_the_data_are_one_line(data, options, message):
    with pytest.raises(DataError, match=message) as error:
        data(**options)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


def test_an_empty_arch_part_is_legal_for_searches_that_do_not_read_it(data):
    module = data(arch_fraction=0.0)
    assert module.sizes == {"weights": 108, "arch": 0, "val": 12, "test": 30}
    with pytest.raises(DataError, match="the arch part has 0 samples"):
        module.search_loader("batch", start)
    assert [list(batch) for batch in module.search_loader(None, start)] == [["weights"]] * 27


def test_a_search_that_does_not_read_the_arch_part_trains_on_it_unless_it_is_held_out(data, numbers):
    module = data(arch_fraction=0.5)
    arch = {
        number
        for batch in module.search_loader("epoch", start)
        if "arch" in batch
        for number in numbers(batch["arch"][0])
    }
    for held, shared in ((True, 0), (False, len(arch))):
        seen = set()
        for t in range(0, 300, 10):
            for batch in module.search_loader(None, lambda t=t: t, held_out=held):
                assert list(batch) == ["weights"]
                seen |= set(numbers(batch["weights"][0]))
        assert len(seen & arch) == shared


def test_cutout_can_be_added_for_retraining_only(data):
    module = data(mean=[0.25] * 3, std=[2.0] * 3)
    plain = [x for x, _ in module.retrain_loader(start)]
    painted = [x for x, _ in module.retrain_loader(start, cutout=2)]
    for x, y in zip(plain, painted, strict=True):
        changed = (x != y).any(1).flatten(1).sum(1)
        assert changed.min() >= 1
        assert changed.max() <= 4
        assert y[(x != y)].abs().max() < 0.01  # what is painted is zero after normalisation, but for rounding
    again = [x for x, _ in module.retrain_loader(start)]
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
