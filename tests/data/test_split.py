import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_nas.data.samples import Arrays, Part
from lightning_nas.data.split import Images, divide, stratified
from lightning_nas.errors import DataError

labels = st.lists(st.integers(0, 5), min_size=1, max_size=120).map(torch.tensor)
shares = st.lists(st.floats(0, 0.33), min_size=1, max_size=3)


@given(labels, shares, st.integers(0, 2**40))
def test_parts_are_disjoint_and_complete_and_have_their_shares(labels, shares, seed):
    parts = stratified(labels, shares, seed)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(labels)))
    for part, share in zip(parts, [*shares, 1 - sum(shares)], strict=True):
        assert abs(len(part) - share * len(labels)) <= 1


@given(st.integers(2, 6), st.integers(1, 40), shares)
def test_every_part_has_its_share_of_every_class(classes, each, shares):
    labels = torch.arange(classes * each) % classes
    for part, share in zip(stratified(labels, shares, 0), [*shares, 1 - sum(shares)], strict=True):
        assert all(abs(count - share * each) < 2 for count in torch.bincount(labels[part], minlength=classes).tolist())
        assert torch.bincount(labels[part], minlength=classes).diff().abs().max() <= 2


def test_rare_classes_are_spread_as_well():
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    counts = [torch.bincount(labels[part]).tolist() for part in stratified(labels, [0.2, 0.3], 0)]
    assert counts == [[180, 18, 2], [270, 27, 3], [450, 45, 5]]


def test_the_division_is_a_function_of_the_seed():
    y = torch.arange(200) % 4
    first, again, other = (stratified(y, [0.3], seed)[0] for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)
    assert not first.equal(torch.arange(len(first))), "not simply the first samples"


def arrays(count, start=0):
    return Arrays(torch.arange(start, start + count).reshape(-1, 1, 1, 1), torch.arange(count) % 3)


def held(part):
    return {int(part[i][0]) for i in range(len(part))}


@pytest.mark.parametrize("search", [1.0, 0.4])
@pytest.mark.parametrize("own", ["none", "test", "val and test"])
def test_the_parts_are_disjoint_and_complete_for_every_data_set(own, search):
    images = Images(
        arrays(300),
        val=arrays(40, 1000) if "val" in own else None,
        test=arrays(50, 2000) if "test" in own else None,
    )
    parts = divide(images, test=0.2, val=0.1, arch=0.25, seed=3, search=search)
    four = [held(parts[name]) for name in ("weights", "arch", "val", "test")]
    assert held(parts["searched"]) == four[0] | four[1]
    rest = held(parts["retrain"]) - held(parts["searched"])
    assert bool(rest) == (search < 1)
    everything = [*four, rest]
    assert sum(map(len, everything)) == len(set.union(*everything)) == 300 + 40 * ("val" in own) + 50 * ("test" in own)
    assert held(parts["retrain"]) == four[0] | four[1] | rest
    if "test" in own:
        assert four[3] == set(range(2000, 2050))
    sizes = {"none": (157, 53, 30, 60), "test": (202, 68, 30, 50), "val and test": (225, 75, 40, 50)}[own]
    sizes = (search * sizes[0], search * sizes[1], *sizes[2:])
    assert [len(part) for part in four] == pytest.approx(sizes, abs=3)
    assert torch.bincount(parts["weights"].labels).diff().abs().max() <= 2, "every class in proportion"


def test_shares_that_leave_nothing_for_training_are_refused():
    with pytest.raises(DataError, match=r"val_fraction=0.5 .*test_fraction=0.5 .* leave none of the 30 images"):
        divide(Images(arrays(30)), test=0.5, val=0.5, arch=0.2, seed=0)


def test_a_part_of_some_classes_numbers_them_from_zero():
    whole = arrays(9)
    part = Part(whole, torch.arange(9), classes=torch.tensor([0, 2]))
    assert [int(part[i][0]) for i in range(len(part))] == [0, 2, 3, 5, 6, 8]
    assert part.labels.tolist() == [0, 1, 0, 1, 0, 1] == [part[i][1] for i in range(len(part))]
    images, labels = part.take([3, 0])
    assert images.flatten().tolist() == [5, 0]
    assert labels.tolist() == [1, 0]
