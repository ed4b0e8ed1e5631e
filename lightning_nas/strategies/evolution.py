"""Evolution over the decisions of a space: children of architectures, and the evolution of single-path one-shot.

A gene is the option of one decision. A gene that is not legal after the genes before it is drawn anew, so children are
always legal in the space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from lightning_nas.architecture import Architecture
from lightning_nas.spaces.base import SearchSpace

TRIES = 10  # draws for each child
_DESCENTS = 3
_MOVES = 3  # draws for each child that is moved, which takes longer


def mutated(space: SearchSpace, parent: Architecture, probability: float, generator: torch.Generator) -> Architecture:
    """Draw each gene of the parent anew with ``probability``; the draw may repeat the gene."""
    kept = torch.rand(len(parent.choices), generator=generator) >= probability
    genes = {name: option for (name, option), keep in zip(parent.choices, kept.tolist(), strict=True) if keep}
    return space.complete(genes, generator)


def crossed(space: SearchSpace, first: Architecture, second: Architecture, generator: torch.Generator) -> Architecture:
    """Take each gene from one of the two parents, by a fair coin."""
    genes = dict(first.choices)
    coins = torch.randint(2, (len(second.choices),), generator=generator).tolist()
    genes |= {name: option for (name, option), coin in zip(second.choices, coins, strict=True) if coin}
    return space.complete(genes, generator)


def cheapest(space: SearchSpace, cost: Callable[[Architecture], float], generator: torch.Generator) -> Architecture:
    """Find a cheap architecture by changing one decision at a time, from three random starts.

    The result is the cheapest of all where the cost is a sum over decisions, as in chains.
    """
    found = [_descended(space, space.sample(generator), cost, generator) for _ in range(_DESCENTS)]
    return min(found, key=cost)


def _descended(
    space: SearchSpace,
    architecture: Architecture,
    cost: Callable[[Architecture], float],
    generator: torch.Generator,
) -> Architecture:
    while True:
        before = cost(architecture)
        for decision in space.decisions:
            genes = dict(architecture.choices)
            others = (genes | {decision.name: option} for option in decision.options)
            architecture = min((architecture, *(space.complete(g, generator) for g in others)), key=cost)
        if not cost(architecture) < before:
            return architecture


def blended(
    space: SearchSpace,
    architecture: Architecture,
    floor: Architecture,
    legal: Callable[[Architecture], bool],
    generator: torch.Generator,
) -> Architecture:
    """Replace genes of an architecture by those of ``floor``, one by one in random order, until it is legal."""
    genes = list(floor.choices)
    for place in torch.randperm(len(genes), generator=generator).tolist():
        name, option = genes[place]
        architecture = space.complete(dict(architecture.choices) | {name: option}, generator)
        if legal(architecture):
            return architecture
    return floor


@dataclass(frozen=True)
class Candidate:
    """An architecture that an evolution has scored.

    Attributes:
        generation: number of its generation, from 0.
        architecture: in the space's canonical form.
        score: higher is better.
        cost: None without a cost function.
    """

    generation: int
    architecture: Architecture
    score: float
    cost: float | None


@dataclass(frozen=True)
class Evolution:
    """The evolution of single-path one-shot (Guo et al., 2020, arXiv:1904.00420, section 3.4, and released code).

    The first generation is random. In each later one, half are mutations and half are crossovers of the best
    ``parents`` so far, and the rest is random. Architectures that were scored before or exceed the limit are skipped;
    after 10 draws for each place a generation stays smaller.

    Deviation from the released code, which draws without end where few architectures keep the limit: after 10 draws
    above the limit, genes of the last one are replaced by those of the cheapest architecture, one by one in random
    order, until it keeps the limit; the evolution ends with the first generation that finds nothing new.

    Args:
        space: of the architectures.
        score: score of an architecture, higher is better; called once for each.
        generator: source of all random numbers.
        generations: number of generations, the first included.
        population: largest number of candidates of a generation.
        parents: number of the best candidates that have children.
        mutation: probability of each gene to be drawn anew.
        cost: cost of an architecture; the cheaper of two equal scores is better.
        limit: upper bound of the cost of every candidate.
        floor: an architecture within the limit, see :func:`cheapest`; needed with a limit.
        within: moves a child to an architecture that may be a candidate; None for every child as it is.
    """

    space: SearchSpace
    score: Callable[[Architecture], float]
    generator: torch.Generator
    generations: int = 20
    population: int = 50
    parents: int = 10
    mutation: float = 0.1
    cost: Callable[[Architecture], float] | None = None
    limit: float | None = None
    floor: Architecture | None = None
    within: Callable[[Architecture, torch.Generator], Architecture] | None = None

    def run(self) -> Iterator[Candidate]:
        """Yield every candidate once it is scored; deterministic in the generator."""
        seen: dict[Architecture, Candidate] = {}
        for generation in range(self.generations):
            drawn = self._generation(seen)
            for architecture in drawn:
                cost = None if self.cost is None else self.cost(architecture)
                seen[architecture] = Candidate(generation, architecture, self.score(architecture), cost)
                yield seen[architecture]
            if not drawn:
                return

    def _generation(self, seen: dict[Architecture, Candidate]) -> list[Architecture]:
        new: dict[Architecture, None] = {}

        def add(wanted: int, make: Callable[[], Architecture]) -> None:
            until = len(new) + wanted
            for _ in range((TRIES if self.within is None else _MOVES) * wanted):
                if len(new) == until:
                    return
                child = make()
                if self.within is not None:
                    child = self.within(child, self.generator)
                child = self.space.canonical(child)
                if child not in seen and self._legal(child):
                    new[child] = None

        if best := ranked(seen.values())[: self.parents]:
            add(self.population // 2, lambda: mutated(self.space, self._one(best), self.mutation, self.generator))
            add(self.population // 2, lambda: crossed(self.space, self._one(best), self._one(best), self.generator))
        add(self.population - len(new), self._random)
        return list(new)

    def _one(self, best: list[Candidate]) -> Architecture:
        return best[int(torch.randint(len(best), (), generator=self.generator))].architecture

    def _legal(self, architecture: Architecture) -> bool:
        return self.limit is None or self.cost is None or self.cost(architecture) <= self.limit

    def _random(self) -> Architecture:
        for _ in range(TRIES):
            drawn = self.space.sample(self.generator)
            if self._legal(drawn):
                return drawn
        assert self.floor is not None, "a limit needs an architecture that keeps it"
        return blended(self.space, drawn, self.floor, self._legal, self.generator)


def ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sort by score, then by cost, then by order of arrival."""
    return sorted(candidates, key=lambda c: (-c.score, c.cost or 0.0))
