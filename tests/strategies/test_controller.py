"""The controller on spaces small enough to go through all their architectures, against the arithmetic written out."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import log
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.functional.reinforce import reinforce_loss
from lightning_nas.spaces.base import Keys, Operation, SearchSpace
from lightning_nas.strategies.controllers.controller import Controller

OPS = ("sep", "pool", "skip")


class Decisions(SearchSpace):
    """A space of which nothing is asked but its decisions."""

    def __init__(self, *decisions: Decision) -> None:
        self.name, self.decisions = "decisions", decisions

    def network(self, *_: Any, **__: Any) -> nn.Module:
        raise AssertionError

    def graph(self, architecture: Architecture) -> "nx.DiGraph[str]":
        raise AssertionError

    def operations(self) -> dict[str, Operation]:
        raise AssertionError

    def cost_keys(self, architecture: Architecture) -> Keys:
        raise AssertionError


class Masked(Decisions):
    """The second letter differs from the first; after "c" there is no second."""

    def __init__(self) -> None:
        super().__init__(*(Decision(name, ("a", "b", "c")) for name in ("first", "second", "third")))

    def options(self, decision: Decision, partial: Mapping[str, str]) -> tuple[str, ...]:
        if decision.name != "second":
            return decision.options
        return () if partial["first"] == "c" else tuple(o for o in decision.options if o != partial["first"])


CELL = Decisions(
    *(Decision(f"a_{s}", ("s0", "s1"), "a", refers=("x", "y")) for s in (1, 2)),
    Decision("a_op", OPS, "a"),
    Decision("b_1", ("s0", "s1", "s2"), "b", refers=("x", "y", "a")),
    Decision("b_op", OPS, "b"),
)
MACRO = Decisions(
    Decision("1_op", OPS, "1"),
    Decision("2_op", OPS, "2"),
    Decision("2_skip_0", ("no", "yes"), "2", refers=("0",)),
    Decision("3_op", OPS, "3"),
    *(Decision(f"3_skip_{j}", ("no", "yes"), "3", refers=(f"{j}",)) for j in (0, 1)),
)
SPACES = {"cell": CELL, "macro": MACRO, "masked": Masked()}
SETTINGS: dict[str, dict[str, Any]] = {
    "cell": {"temperature": 0.5, "tanh_constant": 1.1, "op_tanh_reduce": 2.5, "learned_bias": {"sep": 0.3}}
    | {"fixed_bias": {"a": {"sep": 0.25, "pool": -0.25}}},
    "macro": {"tanh_constant": 1.5},
    "masked": {},
}


def controller(name: str) -> Controller:
    """With weights so large that nothing is uniform."""
    return Controller(SPACES[name], torch.Generator().manual_seed(0), hidden=5, init=1.5, **SETTINGS[name]).double()


def architectures(space: SearchSpace) -> list[Architecture]:
    def grown(left: tuple[Decision, ...], choices: dict[str, str]) -> Iterator[dict[str, str]]:
        if not left:
            yield choices
            return
        legal = space.options(left[0], choices)
        for option in legal:
            yield from grown(left[1:], {**choices, left[0].name: option})
        if not legal:
            yield from grown(left[1:], choices)

    return [Architecture.of(space.name, choices) for choices in grown(space.decisions, {})]


class ByHand:
    """The papers' controller for one architecture, a line for each thing that it does."""

    def __init__(self, controller: Controller, **settings: Any) -> None:
        self.c, self.s = controller, settings
        self.h = self.cell = torch.zeros(5, dtype=torch.float64)

    def lstm(self, x: Tensor) -> Tensor:
        i, f, g, o = (self.c.lstms[0].weight_ih @ x + self.c.lstms[0].weight_hh @ self.h).split(5)
        self.cell = f.sigmoid() * self.cell + i.sigmoid() * g.tanh()
        self.h = o.sigmoid() * self.cell.tanh()
        return self.h

    def option(self, x: Tensor, options: tuple[str, ...], option: str, biased: bool = False) -> tuple[Tensor, Tensor]:
        kind = self.c.kinds[options]
        head, index = self.c.heads[kind], options.index(option)
        logits = head(self.lstm(x)) / self.s.get("temperature", 1.0)
        if "tanh_constant" in self.s:
            logits = self.s["tanh_constant"] / self.s.get("op_tanh_reduce", 1.0) * logits.tanh()
        if biased:
            logits = logits + torch.tensor([0.25, -0.25, 0.0], dtype=torch.float64)
        return logits.log_softmax(0)[index], self.c.embeddings[kind].weight[index]

    def attend(self, state: Tensor, anchors: list[Tensor]) -> Tensor:
        v, w1, w2 = (layer.weight for layer in (self.c.attention, self.c.of_anchor, self.c.of_state))
        logits = torch.stack([(v @ torch.tanh(w1 @ anchor + w2 @ state)).squeeze() for anchor in anchors])
        return self.s["tanh_constant"] * (logits / self.s.get("temperature", 1.0)).tanh()

    def cell_space(self, a: Architecture) -> Tensor:
        start, total = self.c.start[0], []
        states = [self.lstm(start), self.lstm(start)]
        read, x = [torch.zeros_like(s) for s in states], start
        for node, inputs in (("a", ("a_1", "a_2")), ("b", ("b_1",))):
            for name in inputs:
                index = int(a[name][1])
                total.append(self.attend(self.lstm(x), states).log_softmax(0)[index])
                x = read[index]
            chance, x = self.option(x, OPS, a[f"{node}_op"], biased=node == "a")
            total.append(chance)
            anchor = self.lstm(x)
            states, read, x = [*states, anchor], [*read, anchor], start
        return torch.stack(total).sum()

    def macro_space(self, a: Architecture) -> Tensor:
        start = self.c.start[0]
        first, x = self.option(start, OPS, a["1_op"])
        one, total = self.lstm(x), [first]
        states, read, x = [self.lstm(start), one], [torch.zeros_like(one), one], start
        for layer in (2, 3):
            chance, x = self.option(x, OPS, a[f"{layer}_op"])
            total.append(chance)
            state = self.lstm(x)
            answers = [int(a[f"{layer}_skip_{j}"] == "yes") for j in range(layer - 1)]
            logits = self.attend(state, states[: layer - 1])
            for answer, logit in zip(answers, logits, strict=True):
                total.append(torch.stack([-logit, logit]).log_softmax(0)[answer])
            taken = [anchor for anchor, answer in zip(read, answers, strict=False) if answer]
            x = sum(taken, torch.zeros_like(state)) / (1 + len(taken))
            states, read = [*states, state], [*read, state]
        return torch.stack(total).sum()

    def masked_space(self, a: Architecture) -> Tensor:
        x, total = self.c.start[0], []
        for name, option in a.choices:
            state = self.lstm(x)
            logits = self.c.heads[0](state)
            if name == "second":
                logits[self.c.space.decisions[0].options.index(a["first"])] = -torch.inf
            index = "abc".index(option)
            total.append(logits.log_softmax(0)[index])
            x = self.c.embeddings[0].weight[index]
        return torch.stack(total).sum()


@pytest.mark.parametrize("name", SPACES)
def test_log_probabilities_follow_the_paper_and_sum_to_one(name: str) -> None:
    module, every = controller(name), architectures(SPACES[name])
    with torch.no_grad():
        logs = module.replay(every).log_probabilities
        by_hand = torch.stack([getattr(ByHand(module, **SETTINGS[name]), f"{name}_space")(a) for a in every])
    torch.testing.assert_close(logs, by_hand)
    torch.testing.assert_close(logs.exp().sum(), torch.ones((), dtype=torch.float64))
    assert logs.std() > 0.1


@pytest.mark.parametrize("name", SPACES)
def test_reinforce_is_unbiased_over_all_architectures(name: str) -> None:
    module, every = controller(name), architectures(SPACES[name])
    rewards = torch.rand(len(every), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parameters, logs = list(module.parameters()), module.replay(every).log_probabilities
    exact = torch.autograd.grad((logs.exp() * rewards).sum(), parameters, allow_unused=True)
    averaged: list[Any] = [0.0] * len(parameters)
    for architecture, chance, reward in zip(every, logs.exp().tolist(), rewards, strict=True):
        one = module.replay([architecture]).log_probabilities
        loss = reinforce_loss(one, reward[None], baseline=0.37)
        for i, gradient in enumerate(torch.autograd.grad(loss, parameters, allow_unused=True)):
            averaged[i] = averaged[i] - chance * (0.0 if gradient is None else gradient)
    assert sum(gradient is not None for gradient in exact) >= 4
    for expected, found in zip(exact, averaged, strict=True):
        if expected is not None:
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", SPACES)
def test_samples_are_legal_have_their_probability_and_replay(name: str) -> None:
    module, every, count = controller(name), architectures(SPACES[name]), 4000
    with torch.no_grad():
        drawn = module.sample(count, torch.Generator().manual_seed(2))
        replayed = module.replay(drawn.architectures)
        chances = module.replay(every).log_probabilities.exp()
    assert set(drawn.architectures) <= set(every)
    torch.testing.assert_close(replayed.log_probabilities, drawn.log_probabilities)
    torch.testing.assert_close(replayed.entropies, drawn.entropies)
    found = torch.tensor([drawn.architectures.count(a) / count for a in every], dtype=torch.float64)
    assert ((found - chances).abs() <= 5 * (chances / count).sqrt() + 1e-3).all()
    # the mean entropy of what is drawn is that of the distribution
    torch.testing.assert_close(drawn.entropies.mean(), torch.special.entr(chances).sum(), rtol=0.03, atol=0.0)


@pytest.mark.parametrize("name", SPACES)
def test_greedy_takes_the_likeliest_option_after_those_before(name: str) -> None:
    module, every = controller(name), architectures(SPACES[name])
    with torch.no_grad():
        chances = module.replay(every).log_probabilities.exp().tolist()
    left, taken = list(zip(every, chances, strict=True)), module.greedy()
    for decision, option in taken.choices:
        shares: dict[str, float] = {}
        for architecture, chance in left:
            shares[architecture[decision]] = shares.get(architecture[decision], 0.0) + chance
        assert shares[option] == max(shares.values())
        left = [(a, p) for a, p in left if a[decision] == option]


def test_a_row_does_not_depend_on_the_others() -> None:
    module, every = controller("masked"), architectures(SPACES["masked"])
    together = module.replay(every)
    alone = [module.replay([a]) for a in every]
    torch.testing.assert_close(together.log_probabilities, torch.cat([one.log_probabilities for one in alone]))
    torch.testing.assert_close(together.entropies, torch.cat([one.entropies for one in alone]))


def test_the_divergence_is_the_mean_over_layers_of_their_connections() -> None:
    module = Controller(MACRO, torch.Generator().manual_seed(0), hidden=5, share=0.4)
    with torch.no_grad():
        module.attention.weight.zero_()  # every connection as likely as not
    coin = 0.5 * log(0.5 / 0.6) + 0.5 * log(0.5 / 0.4)
    drawn = module.sample(3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.divergences, torch.full((3,), (1 + 2) / 2 * coin))
    assert controller("cell").replay(architectures(CELL)[:2]).divergences.tolist() == [0, 0]


def test_weights_are_uniform_in_the_range_and_a_function_of_the_generator() -> None:
    one, two = (Controller(CELL, torch.Generator().manual_seed(3), hidden=40) for _ in range(2))
    values = torch.cat([p.detach().flatten() for p in one.parameters()])
    assert torch.equal(values, torch.cat([p.detach().flatten() for p in two.parameters()]))
    edges = torch.linspace(-0.1, 0.1, 5)
    shares = [((values >= low) & (values <= high)).float().mean().item() for low, high in pairwise(edges)]
    assert shares == pytest.approx([0.25] * 4, abs=0.01)
    assert all("bias" not in name for name, _ in one.named_parameters())


def test_layers_are_those_of_torchs_lstm() -> None:
    module = Controller(Masked(), torch.Generator().manual_seed(0), hidden=5, layers=2, init=1.0)
    lstm = nn.LSTM(5, 5, num_layers=2, bias=False)
    ours = [weight for cell in module.lstms for weight in cell.parameters()]
    with torch.no_grad():
        for theirs, weight in zip(lstm.parameters(), ours, strict=True):
            theirs.copy_(weight)
    [taken] = module.replay(
        [Architecture.of("decisions", {"first": "a", "second": "b", "third": "c"})]
    ).log_probabilities
    read = torch.stack([module.start[0], *(module.embeddings[0].weight[i] for i in (0, 1))])
    logits = module.heads[0](lstm(read)[0])
    logits[1, 0] = -torch.inf  # the second letter differs from the first
    expected = sum(row.log_softmax(0)[i] for row, i in zip(logits, (0, 1, 2), strict=True))
    torch.testing.assert_close(taken, expected)


@pytest.mark.parametrize("name", SPACES)
def test_entropies_have_the_gradient_of_the_entropy_of_the_distribution(name: str) -> None:
    module = controller(name)
    drawn, parameters = module.replay(architectures(SPACES[name])), list(module.parameters())
    chances = drawn.log_probabilities.exp()
    ways = [(chances * drawn.entropies).sum(), -(chances * drawn.log_probabilities).sum()]
    torch.testing.assert_close(*ways)
    ours, exact = (
        torch.autograd.grad(way, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        for way in ways
    )
    assert max(gradient.abs().max() for gradient in exact) > 0.01
    for found, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(found, expected)
