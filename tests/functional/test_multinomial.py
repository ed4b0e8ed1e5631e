"""MdeNAS' rule, against worked numbers and by its properties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_nas.functional.multinomial import Rule, multinomial_update

NAN = float("nan")
WORKED = [  # epochs, accuracies, change of the paper's rule in units of alpha
    ((1, 2, 3), (0.9, 0.8, 0.7), (2, 0, -2)),
    ((1, 1, 1), (0.9, 0.8, 0.7), (0, 0, 0)),
    ((3, 2, 1), (0.9, 0.8, 0.7), (0, 0, 0)),
    ((3, 2, 1), (0.7, 0.8, 0.9), (-2, 0, 2)),
    ((1, 2, 0), (0.9, 0.8, NAN), (1, -1, 0)),  # never drawn: moves nothing
]


def updated(p: list[float], epochs: tuple[float, ...], accuracies: tuple[float, ...], rule: Rule) -> list[float]:
    rows = (torch.tensor([row], dtype=torch.float64) for row in (p, epochs, accuracies))
    return multinomial_update(*rows, alpha=0.01, rule=rule)[0].tolist()


@pytest.mark.parametrize(("epochs", "accuracies", "change"), WORKED)
def test_the_papers_rule_moves_as_worked_out_by_hand(
    epochs: tuple[float, ...], accuracies: tuple[float, ...], change: tuple[int, ...]
) -> None:
    expected = [1 / 3 + 0.01 * units for units in change]
    assert updated([1 / 3] * 3, epochs, accuracies, "paper") == pytest.approx(expected, abs=1e-12)


def test_the_later_rule_counts_equal_epochs_where_the_papers_does_not() -> None:
    moved = updated([1 / 3] * 3, (1, 1, 1), (0.9, 0.8, 0.7), "safe")
    assert moved == pytest.approx([1 / 3 + 0.02, 1 / 3, 1 / 3 - 0.02])
    for epochs, accuracies, change in WORKED:
        if len(set(epochs)) == 3:
            expected = [1 / 3 + 0.01 * units for units in change]
            assert updated([1 / 3] * 3, epochs, accuracies, "safe") == pytest.approx(expected)


def test_what_is_not_there_cannot_be_taken() -> None:
    epochs, accuracies, p = (1, 2, 3), (0.9, 0.8, 0.7), [0.5, 0.495, 0.005]
    # clipped at 0: 0.52 : 0.495 : 0, divided by its sum
    assert updated(p, epochs, accuracies, "paper") == pytest.approx([0.52 / 1.015, 0.495 / 1.015, 0.0])
    # 0.01 from the second to the first; all 0.005 of the third to the first; nothing is left for the second
    assert updated(p, epochs, accuracies, "safe") == pytest.approx([0.515, 0.485, 0.0])


@given(st.data(), st.sampled_from(["paper", "safe"]))
def test_rows_stay_distributions_and_do_not_look_at_each_other(data: st.DataObject, rule: Rule) -> None:
    seed, options = data.draw(st.integers(0, 2**32)), data.draw(st.integers(2, 6))
    draw = torch.Generator().manual_seed(seed)
    p = torch.rand(3, options, generator=draw).softmax(-1)
    epochs = torch.randint(4, (3, options), generator=draw).float()
    accuracies = torch.randint(4, (3, options), generator=draw) / 4
    for _ in range(5):
        moved = multinomial_update(p, epochs, accuracies, 0.1, rule)
        assert (moved >= 0).all()
        torch.testing.assert_close(moved.sum(-1), torch.ones(3))
        alone = [multinomial_update(*(t[i : i + 1] for t in (p, epochs, accuracies)), 0.1, rule) for i in range(3)]
        torch.testing.assert_close(moved, torch.cat(alone))
        p = moved
