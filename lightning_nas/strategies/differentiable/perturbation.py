r"""DARTS-PT: perturbation-based selection (Wang, Cheng, Chen, Tang, Hsieh, ICLR 2021, arXiv:2108.04392).

The value of an option is what the supernet loses without it, and not its architecture parameter. Choice by choice, in
random order, each option in turn gets the weight zero, and the validation accuracy of the supernet is measured; the
choice keeps the option whose removal hurts most. Then, where a space keeps some of the choices that lead to a node,
those are left out whose removal hurts least. Between two decisions the weights of a copy of the supernet are tuned.

Differs from the paper: options of equal accuracy are told apart by the validation loss. While the weights are tuned the
architecture parameters rest. The supernet is measured on ``score_batches`` batches of the validation part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from lightning_nas.architecture import Architecture
from lightning_nas.spaces.base import Gated, Supernet, Taken, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.parts import Parts
from lightning_nas.tasks.base import Batch, Task

Place = tuple[str, int]
T = TypeVar("T")
Rows = Mapping[str, Tensor]
Worth = tuple[float, float]
"""Score and negative loss of a supernet; the larger one is better."""


def select_by_perturbation(
    space: WeightSharingSpace,
    rows: Rows,
    measure: Callable[[Rows], Worth],
    generator: torch.Generator,
    decided: Callable[[Rows], None] = lambda rows: None,
) -> Architecture:
    """Discretise choice by choice by what the supernet loses without each option.

    Args:
        space: search space with a supernet.
        rows: (choices, options) weights of each group with which the supernet mixes its options; options of weight 0
            are never chosen.
        measure: how good the supernet is with other weights.
        generator: of the order of the choices.
        decided: called with the weights after every decision.

    Example:
        >>> from lightning_nas.testing.toys import ToySpace
        >>> mixed = {"layers": torch.full((2, 3), 1 / 3)}  # blur, swap, keep
        >>> lost = torch.tensor([[0.3, 0.1, 0.2], [0.1, 0.2, 0.3]])  # without each of them
        >>> def worth(rows):
        ...     return -float((lost * (rows["layers"] == 0)).sum()), 0.0
        >>> str(select_by_perturbation(ToySpace(), mixed, worth, torch.Generator()))
        'blur keep'
    """
    selection = _Selection(space, rows)
    for place in _shuffled(selection.places, generator):
        options = selection.options(place)
        if not options:
            selection.leave_out(place)
            continue
        if len(options) > 1:
            worths = {option: measure(selection.without(place, option)) for option in options}
            options = [min(options, key=lambda option: worths[option])]
        selection.choose(place, options[0])
        decided(selection.rows)
    for part in _shuffled(range(len(selection.left)), generator):
        while len(selection.left[part]) > 1:
            hurts = {place: measure(selection.without(place)) for place in selection.removable(part)}
            selection.leave_out(max(hurts, key=lambda place: hurts[place]))
            decided(selection.rows)
    return selection.architecture()


class _Selection:
    """Weights of the options, and the alternatives of each part of an architecture that are still possible."""

    def __init__(self, space: WeightSharingSpace, rows: Rows) -> None:
        self.space, self.parts = space, space.parts()
        self.rows = {group: values.detach().clone() for group, values in rows.items()}
        self.left = [tuple(filter(self._has_weight, part)) or part for part in self.parts]
        self._part = {(group, choice): i for i, p in enumerate(self.parts) for taken in p for group, choice, _ in taken}
        self.places = list(self._part)

    def _has_weight(self, taken: Taken) -> bool:
        return all(float(self.rows[group][choice, option]) > 0 for group, choice, option in taken)

    def options(self, place: Place) -> list[int]:
        """The options of a choice that an architecture may still take."""
        left = self.left[self._part[place]]
        return sorted({option for taken in left for *where, option in taken if tuple(where) == place})

    def removable(self, part: int) -> list[Place]:
        """The choices of a part that some of the alternatives left have, and others have not."""
        used = [{(group, choice) for group, choice, _ in taken} for taken in self.left[part]]
        return [place for place in self.places if any(place in u for u in used) and any(place not in u for u in used)]

    def without(self, place: Place, option: int | None = None) -> dict[str, Tensor]:
        """The weights without an option of a choice, or without the choice."""
        group, choice = place
        changed = self.rows[group].clone()
        changed[choice, slice(None) if option is None else option] = 0.0
        return self.rows | {group: changed}

    def choose(self, place: Place, option: int) -> None:
        """Give an option the weight of its whole choice."""
        group, choice = place
        total = float(self.rows[group][choice].sum())
        self.rows[group][choice] = 0.0
        self.rows[group][choice, option] = total
        self._keep(place, lambda taken: option in [o for *where, o in taken if tuple(where) == place])

    def leave_out(self, place: Place) -> None:
        """Take the choice out of the network."""
        group, choice = place
        self.rows[group][choice] = 0.0
        self._keep(place, lambda taken: False)

    def _keep(self, place: Place, wanted: Callable[[Taken], bool]) -> None:
        """Keep the alternatives that have not the choice at all, and the wanted ones of the others."""
        part = self._part[place]
        self.left[part] = tuple(
            taken for taken in self.left[part] if place not in [(g, c) for g, c, _ in taken] or wanted(taken)
        )

    def architecture(self) -> Architecture:
        taken = [part.index(left[0]) for part, left in zip(self.parts, self.left, strict=True)]
        return Parts(self.space).architecture(taken)


def _shuffled(items: Sequence[T], generator: torch.Generator) -> list[T]:
    return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]


def running(rows: Rows) -> Gates:
    """Gates under which the options with a weight run, and one option of a choice without any."""
    active = {
        group: tuple(tuple(i for i, value in enumerate(row) if value) or (0,) for row in values.tolist())
        for group, values in rows.items()
    }
    return Gates(rows, active)


class Perturbed(Gated):
    """A supernet with other weights of its options, normalised by the statistics of each batch as in training.

    Nothing else is as in training: there is no dropout.

    Args:
        supernet: a copy that may change its running statistics.
        rows: (choices, options) weights of each group.

    Attributes:
        outputs: of all batches so far.
    """

    def __init__(self, supernet: Supernet, rows: Rows) -> None:
        super().__init__(supernet, running(rows))
        self.outputs: list[Tensor] = []

    def train(self, mode: bool = True) -> Perturbed:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.training = True
        return self

    def forward(self, x: object) -> Tensor:
        output = super().forward(x)
        self.outputs.append(output)
        return output


@torch.no_grad()
def worth(supernet: Supernet, rows: Rows, task: Task, batches: Iterable[Batch], num_classes: int) -> Worth:
    """Score of a supernet with these weights of its options, and its negative mean loss."""
    network, targets = Perturbed(supernet, rows), list[Tensor]()

    def noted() -> Iterator[Batch]:
        for x, y in batches:
            targets.append(y)
            yield x, y

    score = task.score(network, noted(), num_classes)
    losses = [task.loss(output, y.to(output.device)) for output, y in zip(network.outputs, targets, strict=True)]
    return score, -float(torch.stack(losses).mean())


class Tuning:
    """Weights steps on a copy of a supernet, on training batches that go on where the last call ended.

    Args:
        supernet: the copy.
        optimizer: of its weights.
        loss: of an output of the supernet and its batch.
        batch: gives training batch number i.
        steps: of each call.
        clip: largest gradient norm; None for no clipping.
    """

    def __init__(
        self,
        supernet: Supernet,
        optimizer: Optimizer,
        loss: Callable[[Tensor, Batch], Tensor],
        batch: Callable[[int], Batch],
        steps: int,
        clip: float | None,
    ) -> None:
        self.supernet, self.optimizer, self.loss, self.batch = supernet, optimizer, loss, batch
        self.steps, self.clip = steps, clip
        self.done = 0

    @torch.enable_grad()
    def __call__(self, rows: Rows) -> None:
        self.supernet.train()
        for _ in range(self.steps):
            batch = self.batch(self.done)
            self.optimizer.zero_grad()
            self.loss(self.supernet(batch[0], running(rows)), batch).backward()  # type: ignore[no-untyped-call]
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.supernet.parameters(), self.clip)
            self.optimizer.step()
            self.done += 1
