import numpy as np
import pytest
import torch

from lightning_nas.data.arrays import ArrayData
from lightning_nas.errors import DataError

RNG = np.random.default_rng(0)
X, Y = RNG.random((80, 6, 6)), np.arange(80) % 2


def setup(x, x_test=None, **options):
    tests = () if x_test is None else (x_test, Y[: len(x_test)])
    data = ArrayData(x, Y[: len(x)], *tests, batch_size=4, **options)
    data.setup()
    return data


def images(data):
    return torch.cat([x for x, _ in data.test_dataloader()])


@pytest.mark.parametrize("unit", [1e-9, 1e-20, 1e9])
@pytest.mark.parametrize("offset", [0, 1])
def test_the_unit_of_the_pixels_does_not_matter(unit, offset):
    plain = images(setup((X + offset).astype(np.float32)))
    torch.testing.assert_close(images(setup((X + offset) * unit)), plain, rtol=1e-3, atol=1e-3)
    assert not setup((X + offset) * unit).doubts


@pytest.mark.parametrize(("x", "few"), [(X + 1e6, True), (X + 1e4, False), (X * 1e8 + 2e7, False)])
def test_a_spread_that_float32_cannot_hold_beside_the_mean_is_a_doubt(x, few):
    """In float32 numbers around 1e6 are 0.06 apart, around 1e4 0.001."""
    said = setup(x).doubts
    assert any("of which 32-bit numbers keep few steps; subtract their mean" in words for words in said) == few
    assert (len(np.unique(x.astype(np.float32))) < 20) == few


def test_numbers_too_small_for_float32_are_refused():
    with pytest.raises(DataError, match="x_train has no pixel above 1e-40, too little for float32"):
        setup(np.minimum(X, 1) * 0 + 1e-40)


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint16, 65535), (">u2", 65535), (bool, 1), (">f4", 1)])
def test_integers_of_16_bits_and_booleans_have_their_scale(dtype, largest):
    x = (X > 0.5) * largest
    data = setup(x.astype(dtype), mean=[0.0], std=[1.0], val_fraction=0.1)
    assert set(images(data).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint32, np.uint64, complex, "U1", object])
def test_other_types_are_refused_by_name(dtype):
    with pytest.raises(DataError, match=r"x_train has the type .*; legal are uint8"):
        setup((X > 0.5).astype(dtype))


@pytest.mark.parametrize(("one", "other"), [("float32", "uint8"), ("uint8", "float64"), ("uint8", "uint16")])
def test_training_and_test_images_of_two_types_are_refused(one, other):
    with pytest.raises(
        DataError, match=f"x_train is '{one}', x_test is '{other}'; integers and floats differ in scale"
    ):
        setup((X * 255).astype(one), (X * 255).astype(other))


def test_two_precisions_of_floats_are_one_type():
    assert not setup(X.astype(np.float16), X.astype(np.float64)).doubts


DOUBTS = {
    "constant": ((X * 0 + 3,), "the training images have one value everywhere"),
    "alike": ((X * 0 + X[:1],), "the training images are all alike"),
    "constant channel": ((np.stack([X, X * 0], -1),), "channel 1 of the training images has one value everywhere"),
    "constant test": ((X, X * 0), "the test images have one value everywhere"),
    "unlike range": ((X, X * 255), "the test images are unlike the training images"),
    "unlike offset": ((X, X + 50), "the test images are unlike the training images"),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_constant_and_unlike_images_are_warned_of(case, caplog):
    arrays, words = DOUBTS[case]
    data = setup(*arrays)
    assert any(words in doubt for doubt in data.doubts)
    assert words in caplog.text


def test_statistics_that_do_not_fit_the_pixels_are_warned_of():
    doubts = setup(X * 255, mean=[0.5], std=[0.2]).doubts
    assert ["the training images have mean" in doubt for doubt in doubts] == [True]


def test_contents_are_told_apart_and_copies_are_not():
    first = setup(X).digest()
    assert setup(X.copy()).digest() == first
    changed = X.copy()
    changed[3, 2, 1] += 1e-3
    assert setup(changed).digest() != first
    assert setup(X, X).digest() != first


@pytest.mark.parametrize("shape", [(5, 9), (5, 9, 3)])
def test_images_need_not_be_square(shape):
    data = setup(RNG.random((80, *shape)), crop_padding=1, flip=True, cutout=2)
    assert data.shape == ((*shape[2:], *shape[:2]) if len(shape) > 2 else (1, *shape))
    assert data.found["image_size"] == [5, 9]
    again = setup(RNG.random((80, *shape)), image_size=[5, 9])
    assert images(again).shape[-2:] == (5, 9)
    with pytest.raises(DataError, match=r"image_size \[5, 9\], but image_size .* is \[9, 5\]"):
        setup(RNG.random((80, *shape)), image_size=[9, 5])


@pytest.mark.parametrize("x", [RNG.random((80, 3, 20, 30)), torch.rand(80, 20, 30, 3)])
def test_channels_in_the_other_place_are_refused_also_where_not_square(x):
    with pytest.raises(DataError, match=r"x_train has the shape \(80, .*others of at most 4: \w+ are .*channels"):
        setup(x)
