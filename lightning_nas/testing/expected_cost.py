"""What the conformance suite of search spaces demands of their expected cost."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from lightning_nas.latency.cost import ExpectedCost
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates

TRIALS, ROWS = 4, 3


class ExpectedCostCase:
    """Needs the fixture ``shared``, a space with a supernet."""

    def test_expected_cost_is_the_mean_over_drawn_architectures(self, shared: WeightSharingSpace) -> None:
        table = {key: float(i % 7 + 1) for i, key in enumerate(shared.operations())}
        cost, generator = ExpectedCost(shared, table), torch.Generator().manual_seed(8)
        for _ in range(TRIALS):
            values = {group: _drawn(shape, generator) for group, shape in shared.gate_shapes.items()}
            soft = _some_rows(shared, generator)
            for group, choice in soft:
                values[group][choice] = torch.rand(values[group].shape[1], generator=generator).softmax(-1)
            mean = 0.0
            for options in itertools.product(*(range(len(values[group][choice])) for group, choice in soft)):
                one_hot = {group: rows.clone() for group, rows in values.items()}
                probability = 1.0
                for (group, choice), option in zip(soft, options, strict=True):
                    one_hot[group][choice] = torch.eye(len(one_hot[group][choice]))[option]
                    probability *= float(values[group][choice, option])
                mean += probability * _exact(shared, one_hot, cost, table)
            assert float(cost(Gates.soft(values))) == pytest.approx(mean, rel=1e-5)


def _drawn(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """One-hot rows."""
    return torch.eye(shape[1])[torch.randint(shape[1], (shape[0],), generator=generator)]


def _some_rows(space: WeightSharingSpace, generator: torch.Generator) -> set[tuple[str, int]]:
    """Choices to make soft: of something that several decide together, if there is such a thing, and any."""
    everywhere = [(group, choice) for group, (choices, _) in space.gate_shapes.items() for choice in range(choices)]
    pool = everywhere
    if joints := space.joint_keys():
        pool = [gate[:2] for gate in joints[int(torch.randint(len(joints), (), generator=generator))].gates]
    picked = torch.randperm(len(pool), generator=generator)[: ROWS - 1].tolist()
    return {everywhere[int(torch.randint(len(everywhere), (), generator=generator))], *(pool[i] for i in picked)}


def _exact(space: WeightSharingSpace, one_hot: dict[str, Tensor], cost: ExpectedCost, table: dict[str, float]) -> float:
    """The cost of the architecture that one-hot gates stand for; where they stand for none, what they expect."""
    architecture = space.derive(one_hot)
    if all(torch.equal(space.gates(architecture).values[group], rows) for group, rows in one_hot.items()):
        return space.cost(architecture, table)
    return float(cost(Gates.soft(one_hot)))
