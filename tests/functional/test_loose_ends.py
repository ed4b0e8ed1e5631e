import itertools

import pytest
import torch

from lightning_nas.functional.loose_ends import loose_ends


def test_soft_shares_are_the_probabilities_of_being_left_over() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes, states = (2, 2, 3, 3, 4), 5
    rows = [torch.rand(size, generator=generator, dtype=torch.float64).softmax(0) for size in sizes]
    expected = torch.zeros(states, dtype=torch.float64)
    for chosen in itertools.product(*map(range, sizes)):
        probability = torch.stack([row[j] for row, j in zip(rows, chosen, strict=True)]).prod()
        for j in set(range(states)) - set(chosen):
            expected[j] += probability
    numbers, weights = loose_ends(rows, [tuple(range(size)) for size in sizes], states)
    assert numbers == (0, 1, 2, 3, 4)
    torch.testing.assert_close(weights, expected)


def test_of_one_path_no_tensor_is_read() -> None:
    rows = [torch.full((3,), float("nan"), device="meta")] * 2  # reading one from the meta device would fail
    assert loose_ends(rows, [(0,), (2,)], 5) == ((1, 3, 4), None)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_what_alone_is_active_is_certain_whatever_its_gate(scale: float) -> None:
    rows = [torch.tensor([0.2, 0.8]) * scale, torch.tensor([0.5, 0.3, 0.2]) * scale]
    some, weights = loose_ends(rows, [(1,), (0, 2)], 4)
    assert some == (0, 2, 3)
    torch.testing.assert_close(weights, torch.tensor([2 / 7, 5 / 7, 1.0]))


def test_weights_have_gradients_where_a_choice_is_certain() -> None:
    row = torch.tensor([1.0, 0.0], requires_grad=True)
    _, weights = loose_ends([row, torch.tensor([0.5, 0.5, 0.0])], [(0, 1), (0, 1, 2)], 3)
    assert weights is not None
    weights[1].backward()
    torch.testing.assert_close(row.grad, torch.tensor([0.5 * 0.0, 0.5]) * torch.tensor([1.0, -1.0]))
