from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from lightning_nas.strategies.differentiable.pc_darts import PCDARTS, softmax_by_node
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded


def make_pc_darts(seed: int = 0, **options: Any) -> PCDARTS:
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.999)),
        "calibration_batches": 2,
        "score_batches": 2,
        "k": 2,
    }
    with seeded(seed, "supernet"):
        return PCDARTS(ToySpace(), Classification(), seed=seed, **defaults | options)


class TestPCDarts(StrategyCase):
    search_epochs = 12
    search_options: ClassVar[dict[str, Any]] = {"arch_warmup_epochs": 3}  # as the paper, the weights first

    @pytest.fixture
    def make(self) -> Callable[..., PCDARTS]:
        return make_pc_darts


def test_the_shuffle_of_four_groups_is_the_papers() -> None:
    shuffled = torch.nn.functional.channel_shuffle(torch.arange(8.0).view(1, 8, 1, 1), 4)
    assert shuffled.flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_only_a_quarter_of_the_channels_is_mixed() -> None:
    from lightning_nas.ops.altered import partial_channels
    from lightning_nas.ops.mixed import Choice, MixedOp

    seen = []

    def build(name: str, i: int, o: int) -> torch.nn.Module:
        seen.append((i, o))
        return torch.nn.AvgPool2d(2) if name == "pool" else torch.nn.MaxPool2d(2)

    choice = Choice(("pool", "max"), build, 8, 8, 2)
    x, gates = torch.randn(2, 8, 4, 4), torch.tensor([0.2, 0.3])
    out = partial_channels(choice, 4)(x, gates, (0, 1))
    assert set(seen) == {(2, 2)}
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    pooled = torch.nn.functional.max_pool2d(x, 2)
    mixed = 0.2 * torch.nn.functional.avg_pool2d(x, 2) + 0.3 * pooled
    for place, channel in enumerate(order):
        expected = mixed[:, channel] if channel < 2 else 0.5 * pooled[:, channel]
        torch.testing.assert_close(out[:, place], expected)
    assert type(partial_channels(Choice(("pool", "max"), build, 8, 16), 4)) is MixedOp


def test_edges_are_normalised_by_node() -> None:
    logits = torch.randn(14)
    nodes = (0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3)
    weights = softmax_by_node(logits, nodes)
    for first, last in ((0, 2), (2, 5), (5, 9), (9, 14)):
        torch.testing.assert_close(weights[first:last], logits[first:last].softmax(0))


def test_both_parameters_are_trained(tmp_path: Path) -> None:
    space = ToySpace()
    space.nodes = lambda group: (0, 0)  # type: ignore[method-assign]
    with seeded(0, "supernet"):
        module = PCDARTS(
            space,
            Classification(),
            **PLAIN_ARCH,
            weights_optimizer=partial(torch.optim.SGD, lr=0.1),
            arch_optimizer=partial(torch.optim.Adam, lr=0.1),
            k=2,
        )
    before = [p.detach().clone() for p in module.arch_parameters()]
    fit(module, ToyData(), tmp_path, epochs=1, every=1000)
    assert all(not torch.equal(a, b) for a, b in zip(before, module.arch_parameters(), strict=True))
