"""Answers by perturbation, against selections by hand and networks that run by hand."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

import lightning_nas as ln
from lightning_nas.errors import ConfigError
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.darts.space import EDGES, OPTIONS, DARTSSpace
from lightning_nas.spaces.enas.micro import ENASMicroSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace
from lightning_nas.strategies.differentiable.base import DifferentiableSearch
from lightning_nas.strategies.differentiable.darts import DARTS
from lightning_nas.strategies.differentiable.darts_minus import DARTSMinus
from lightning_nas.strategies.differentiable.fbnet import FBNet
from lightning_nas.strategies.differentiable.pc_darts import PCDARTS
from lightning_nas.strategies.differentiable.perturbation import Rows, Tuning, Worth, select_by_perturbation, worth
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.toys import ToyData, ToySpace, toy_images
from lightning_nas.testing.training import digest, fit, one_thread
from lightning_nas.training.seeding import seeded


def additive(space: WeightSharingSpace, seed: int) -> tuple[dict[str, Tensor], Callable[[Rows], Worth]]:
    """What each option is worth, and a measure in which the worths of the options with a weight add up."""
    draw = torch.Generator().manual_seed(seed)
    worths = {group: torch.rand(shape, generator=draw) for group, shape in space.gate_shapes.items()}
    return worths, lambda rows: (sum(float((worths[g] * (rows[g] > 0)).sum()) for g in rows), 0.0)


def uniform(space: WeightSharingSpace) -> dict[str, Tensor]:
    return {group: torch.full(shape, 1 / shape[1]) for group, shape in space.gate_shapes.items()}


@pytest.mark.parametrize("seed", range(3))
def test_a_darts_cell_keeps_the_options_and_edges_of_the_largest_loss(seed: int) -> None:
    space = DARTSSpace(input_shape=(1, 8, 8), num_classes=10)
    worths, measure = additive(space, seed)
    found = select_by_perturbation(space, uniform(space), measure, torch.Generator().manual_seed(seed))
    gates = space.gates(found).values
    for kind, values in worths.items():
        for node in range(4):
            edges = [e for e, edge in enumerate(EDGES) if edge[0] == node]
            best = {e: 1 + int(values[e, 1:].argmax()) for e in edges}  # option 0 is "none"
            assert OPTIONS[0] == "none"
            kept = sorted(edges, key=lambda e: -float(values[e, best[e]]))[:2]
            chosen = {e: int(gates[kind][e].argmax()) for e in edges}
            assert {e: option for e, option in chosen.items() if option} == {e: best[e] for e in kept}


SPACES: list[Callable[[], WeightSharingSpace]] = [
    ToySpace,
    lambda: NASBench201Space(input_shape=(1, 8, 8), num_classes=10),
    lambda: ENASMicroSpace(input_shape=(1, 8, 8), num_classes=10),
    lambda: DARTSRNNSpace("tiny", bptt=5, num_classes=20, width=6, steps=2),
]


@pytest.mark.parametrize("make", SPACES)
def test_every_space_gets_a_legal_architecture(make: Callable[[], WeightSharingSpace]) -> None:
    space = make()
    for seed in range(3):
        _, measure = additive(space, seed)
        found = select_by_perturbation(space, uniform(space), measure, torch.Generator().manual_seed(seed))
        assert space.validate(found) == found


def test_later_decisions_see_the_earlier_ones_in_an_order_of_the_generator() -> None:
    keep, orders = torch.tensor([0.0, 0.0, 1.0]), set()

    def measure(rows: Rows) -> Worth:
        return -float((rows["layers"][:, 2] == 0).sum()), 0.0

    for seed in range(20):
        seen: list[Tensor] = []
        select_by_perturbation(
            ToySpace(4),
            {"layers": torch.tensor([[0.2, 0.3, 0.5]]).repeat(4, 1)},
            measure,
            torch.Generator().manual_seed(seed),
            lambda rows, seen=seen: seen.append(rows["layers"].clone()),  # type: ignore[misc]
        )
        decided = [(rows == keep).all(-1) for rows in seen]
        assert [int(d.sum()) for d in decided] == [1, 2, 3, 4]
        before = [torch.zeros(4).bool(), *decided]
        orders.add(tuple(int((now & ~then).nonzero()) for then, now in zip(before, decided, strict=False)))
    assert len(orders) > 10


def trained(kind: type[DifferentiableSearch], folder: Path, epochs: int = 6, **options: Any) -> DifferentiableSearch:
    given: dict[str, Any] = {
        **PLAIN_ARCH,
        "weights_optimizer": partial(SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(Adam, lr=0.1),
    }
    with seeded(0, "supernet"), one_thread():
        module = kind(ToySpace(), Classification(), **given | options)
        fit(module, ToyData(), folder, epochs=epochs, every=1000, limit_val_batches=0)
    return module


@pytest.mark.parametrize("steps", [0, 2])
def test_the_best_architecture_is_found_without_training_alpha(steps: int, tmp_path: Path) -> None:
    frozen: dict[str, Any] = {"arch_optimizer": partial(SGD, lr=0.0), "theta_std": 0.0}
    module = trained(DARTS, tmp_path, answer_by="perturbation", perturbation_steps=steps, **frozen)
    before = digest(module.state_dict())
    assert module.answer() == module.answer() == ToySpace().best != module.derive()
    assert digest(module.state_dict()) == before, "the answer changed the supernet"
    assert "hurts most" in module.answer_rule


KINDS = sorted(
    {k for name in ln.__all__ if isinstance(k := getattr(ln, name), type) and issubclass(k, DifferentiableSearch)}
    - {DifferentiableSearch},
    key=lambda k: k.__name__,
)


@pytest.mark.parametrize("kind", [k for k in KINDS if k.perturbable])
def test_every_strategy_may_answer_by_it(kind: type[DifferentiableSearch], tmp_path: Path) -> None:
    own = {"k": 2} if kind is PCDARTS else {}
    module = trained(kind, tmp_path, epochs=1, answer_by="perturbation", **own)
    seen = list[Rows]()
    real, module.mixture = module.mixture, lambda: seen.append(real()) or seen[0]  # type: ignore[method-assign, func-returns-value]
    assert module.answer() in [ToySpace().validate({"layer_1": a, "layer_2": b}) for a in M for b in M]
    assert len(seen) == 1


M = ("blur", "swap", "keep")


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.perturbable])
def test_methods_with_a_rule_of_their_own_refuse_it(kind: type[DifferentiableSearch]) -> None:
    with pytest.raises(ConfigError, match=rf"answer_by=perturbation: {kind.__name__} answers by a rule"):
        kind(ToySpace(), answer_by="perturbation")


def test_what_would_be_ignored_is_refused() -> None:
    with pytest.raises(ConfigError, match="a target is kept by the probabilities"):
        DARTS(ToySpace(), answer_by="perturbation", target={"macs": 600})
    for kind in (DARTS, FBNet):
        with pytest.raises(ConfigError, match=r"perturbation_steps=3 needs strategy\.answer_by=perturbation"):
            kind(ToySpace(), perturbation_steps=3)


def test_the_worth_is_that_of_batch_statistics_without_dropout() -> None:
    with seeded(1, "supernet"):
        supernet = ToySpace().supernet()
    supernet.add_module("dropped", nn.Dropout(0.9))
    supernet.register_forward_pre_hook(lambda module, args: (supernet.dropped(args[0]), args[1]))  # type: ignore[operator]
    images, labels = toy_images(96, seed=3)
    batches = [(images[i : i + 48].float() / 255, labels[i : i + 48]) for i in (0, 48)]
    rows = {"layers": torch.tensor([[0.2, 0.0, 0.5], [0.0, 0.0, 1.0]])}
    by_hand = copy.deepcopy(supernet)
    by_hand.dropped = nn.Identity()  # type: ignore[assignment]
    by_hand._forward_pre_hooks.clear()
    outputs = [by_hand.train()(x, Gates.soft(rows)) for x, _ in batches]
    right = torch.cat([(o.argmax(-1) == y).float() for o, (_, y) in zip(outputs, batches, strict=True)]).mean()
    loss = torch.stack([nn.functional.cross_entropy(o, y) for o, (_, y) in zip(outputs, batches, strict=True)]).mean()
    score, negative = worth(supernet, rows, Classification(), batches, 4)
    assert score == pytest.approx(float(right))
    assert -negative == pytest.approx(float(loss), rel=1e-5)


def test_tuning_steps_go_on_with_the_batches() -> None:
    with seeded(1, "supernet"):
        supernet = ToySpace().supernet()
    by_hand, rows = copy.deepcopy(supernet), {"layers": torch.tensor([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])}
    images, labels = toy_images(64, seed=3)
    asked = []

    def batch(number: int) -> tuple[Tensor, Tensor]:
        asked.append(number)
        return images[16 * number : 16 * number + 16].float() / 255, labels[16 * number : 16 * number + 16]

    loss = Classification().training_loss
    tuning = Tuning(supernet, SGD(supernet.parameters(), lr=0.1), loss, batch, 2, clip=0.5)
    for _ in range(2):
        tuning(rows)
    assert asked == [0, 1, 2, 3]
    optimizer = SGD(by_hand.parameters(), lr=0.1)
    for number in range(4):
        x, y = batch(number)
        optimizer.zero_grad()
        nn.functional.cross_entropy(by_hand.train()(x, Gates.soft(rows)), y).backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        optimizer.step()
    for ours, theirs in zip(supernet.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_mixture_is_that_of_training() -> None:
    search = PCDARTS(ToySpace(), k=2)
    expected = search.gates(torch.Generator()).values["layers"]
    torch.testing.assert_close(search.mixture()["layers"], expected.detach())
    minus = DARTSMinus(ToySpace())
    assert [m.beta for m in minus.supernet_copy().modules() if hasattr(m, "beta")] == [0.0, 0.0]
    assert [m.beta for m in minus.supernet.modules() if hasattr(m, "beta")] == [1.0, 1.0]
