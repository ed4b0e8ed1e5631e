"""A recurrent network that takes the decisions of a search space one after another.

It reads decisions only, no networks: the controllers of NAS with reinforcement learning (Zoph and Le, ICLR 2017,
arXiv:1611.01578) and of ENAS (Pham et al., ICML 2018, arXiv:1802.03268) for any search space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from pydantic import PositiveFloat
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import NumericalError
from lightning_nas.functional.reinforce import bounded_logits, connection_divergence
from lightning_nas.ranges import Depth, Finite, Width
from lightning_nas.signature import Checked
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.controllers.steps import ControllerStep, connects, plan, refers

Choose = Callable[[Decision, Tensor], Tensor]
"""Maps a decision and (B, options) log-probabilities to (B,) chosen options."""

Memory = list[tuple[Tensor, Tensor]]
"""(B, hidden) state and cell of each LSTM."""

_LEAST = torch.finfo(torch.float32).min  # illegal options have minus infinity, and 0 times that is NaN


@dataclass(frozen=True)
class Drawn:
    """A batch of B architectures with the quantities of a policy gradient.

    Attributes:
        architectures: the B architectures.
        log_probabilities: (B,), differentiable.
        entropies: (B,), sum over the decisions of the entropy given those before, in nats; differentiable.
        divergences: (B,), see :func:`~lightning_nas.functional.reinforce.connection_divergence`; the mean over the
            nodes that decide on connections, differentiable.
        decided: (B,), number of decisions with more than one legal option.
    """

    architectures: tuple[Architecture, ...]
    log_probabilities: Tensor
    entropies: Tensor
    divergences: Tensor
    decided: Tensor

    @property
    def mean_entropy(self) -> Tensor:
        """Mean entropy of a decision over all architectures; without gradient."""
        return (self.entropies.detach() / self.decided.to(self.entropies).clamp(min=1)).mean()


class Controller(Checked, nn.Module):
    r"""Recurrent controller: LSTMs without biases that read the last choice, and a head for each kind of decision.

    * an option of a set: a linear layer, one for each set of options; it reads the option's embedding next;
    * an earlier node: attention :math:`v^T \tanh(W_1 a_j + W_2 h)` to the anchors of the nodes, which are the states
      after what was decided of them; it reads the anchor next, or zeros for a node of which nothing is decided;
    * a node's connections, all at once: the attention to each earlier node is the logit of "connected" and minus that
      of "not"; it reads the sum of the chosen anchors over one more than their number.

    After a node it reads a start vector, as it does at the very beginning and to make the anchor of a node of which
    nothing is decided.

    Args:
        space: any.
        generator: of the weights, uniform in +-init.
        hidden: size of state and embeddings.
        layers: LSTMs, each reads the state of the one before.
        init: see above.
        temperature: divides logits; None for not at all.
        tanh_constant: logits end in this times their tanh; None for not at all.
        op_tanh_reduce: divides the constant where an option is chosen.
        share: of the connections that is wanted, see :attr:`Drawn.divergences`.
        learned_bias: what the biases of these options start with; if empty there are no biases.
        fixed_bias: added last to the logits of options, by the beginning of the names of decisions.
    """

    def __init__(
        self,
        space: SearchSpace,
        generator: torch.Generator,
        *,
        hidden: Width = 64,
        layers: Depth = 1,
        init: PositiveFloat = 0.1,
        temperature: PositiveFloat | None = None,
        tanh_constant: PositiveFloat | None = None,
        op_tanh_reduce: PositiveFloat = 1.0,
        share: Annotated[float, Interval(gt=0, lt=1)] = 0.4,
        learned_bias: Mapping[str, Finite] | None = None,
        fixed_bias: Mapping[str, Mapping[str, Finite]] | None = None,
    ) -> None:
        super().__init__()
        self.space, self.share = space, share
        self.temperature, self.tanh_constant, self.op_tanh_reduce = temperature, tanh_constant, op_tanh_reduce
        self.plan, self.fixed_bias = plan(space.decisions), fixed_bias or {}
        sets = dict.fromkeys(d.options for d in space.decisions if not refers(d))
        self.kinds = {options: kind for kind, options in enumerate(sets)}
        self.start = nn.Parameter(torch.empty(1, hidden))
        self.lstms = nn.ModuleList(nn.LSTMCell(hidden, hidden, bias=False) for _ in range(layers))
        self.embeddings = nn.ModuleList(nn.Embedding(len(options), hidden) for options in sets)
        self.heads = nn.ModuleList(nn.Linear(hidden, len(options), bias=bool(learned_bias)) for options in sets)
        if any(step.anchor for step in self.plan):
            self.of_anchor, self.of_state = (nn.Linear(hidden, hidden, bias=False) for _ in range(2))
            self.attention = nn.Linear(hidden, 1, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-init, init, generator=generator)
            for options, head in zip(sets, self.heads, strict=True):
                if learned_bias and isinstance(head, nn.Linear):
                    head.bias.copy_(torch.tensor([learned_bias.get(option, 0.0) for option in options]))

    # -- architectures ------------------------------------------------------------------------------------------

    def sample(self, count: int, generator: torch.Generator) -> Drawn:
        """Draw ``count`` architectures at once."""
        drawn: Drawn = self(count, lambda _, logs: drawn_options(logs.exp(), generator))
        return drawn

    def greedy(self) -> Architecture:
        """The architecture of the most probable option at each step."""
        with torch.no_grad():
            drawn: Drawn = self(1, lambda _, logs: logs.argmax(-1))
        return drawn.architectures[0]

    def replay(self, architectures: Sequence[Architecture]) -> Drawn:
        """The result of :meth:`sample` for these architectures."""
        choices = [dict(architecture.choices) for architecture in architectures]

        def chosen(decision: Decision, _: Tensor) -> Tensor:
            options = [row.get(decision.name, decision.options[0]) for row in choices]  # the first: not decided there
            return torch.tensor([decision.options.index(option) for option in options])

        drawn: Drawn = self(len(architectures), chosen)
        return drawn

    def forward(self, count: int, choose: Choose) -> Drawn:
        """Go through the decisions of ``count`` architectures, in float32 whatever the precision of the training."""
        with torch.autocast(self.start.device.type, enabled=False):
            walk = _Walk(self, count, choose)
            for step in self.plan:
                walk.take(step)
            return walk.drawn()

    # -- logits -------------------------------------------------------------------------------------------------

    def logits(self, step: ControllerStep, state: Tensor, keys: Mapping[str, Tensor]) -> Tensor:
        """(B, decisions, options) of a step.

        Args:
            step: which.
            state: (B, hidden) after it.
            keys: (B, hidden) of each node there is an anchor of.
        """
        first = step.decisions[0]
        if earlier := [node for decision in step.decisions for node in refers(decision)]:
            found = torch.stack([keys[node] for node in earlier], 1) + self.of_state(state)[:, None]
            logits = self.attention(found.tanh()).squeeze(-1)
            logits = logits[:, None] if first.is_index else torch.stack([-logits, logits], -1)
            return bounded_logits(logits, self.temperature, self.tanh_constant)
        bound = None if self.tanh_constant is None else self.tanh_constant / self.op_tanh_reduce
        logits = bounded_logits(self.heads[self.kinds[first.options]](state), self.temperature, bound)
        for prefix, biases in self.fixed_bias.items():
            if first.name.startswith(prefix):
                logits = logits + logits.new_tensor([biases.get(option, 0.0) for option in first.options])
        return logits[:, None]


def drawn_options(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """Draw an option of each row of (N, options); (N,) on the CPU.

    Raises:
        NumericalError: the probabilities are not finite, because the controller diverged.
    """
    try:
        return torch.multinomial(probabilities.cpu(), 1, generator=generator)[:, 0]
    except RuntimeError:
        if torch.isfinite(probabilities).all():
            raise
        raise NumericalError("the controller's probabilities are not finite: it diverged; lower its rate") from None


class _Walk:
    """A batch of walks through the decisions; rows do not depend on each other."""

    def __init__(self, controller: Controller, count: int, choose: Choose) -> None:
        self.controller, self.choose = controller, choose
        self.next = start = controller.start.expand(count, -1)
        self.memory: Memory = [(torch.zeros_like(start),) * 2 for _ in controller.lstms]
        self.anchors, self.keys = dict[str, Tensor](), dict[str, Tensor]()
        self.choices: list[dict[str, str]] = [{} for _ in range(count)]
        self.logs, self.entropies = [start.new_zeros(count)], [start.new_zeros(count)]
        self.divergences: list[Tensor] = []
        self.decided = torch.zeros(count)

    def take(self, step: ControllerStep) -> None:
        """One step of the recurrent network."""
        controller, start = self.controller, self.controller.start.expand_as(self.next)
        memory = self._remember(start if step.anew else self.next)
        state = memory[-1][0]
        if step.anchor:
            self.anchors[step.anchor] = torch.zeros_like(state) if step.anew else state
            self.keys[step.anchor] = controller.of_anchor(state)
        if not step.decisions:
            self.memory, self.next = memory, self.next if step.anew else start
            return
        logits = controller.logits(step, state, self.keys)
        answers = [self._decide(decision, logits[:, i]) for i, decision in enumerate(step.decisions)]
        chosen, taken = (torch.stack(parts, 1) for parts in zip(*answers, strict=True))
        self._move(memory, self._following(step.decisions, chosen), taken.any(1))
        if connects(step.decisions[0]):
            self.divergences.append(connection_divergence(logits, controller.share))

    def _remember(self, read: Tensor) -> Memory:
        """State and cell of each LSTM after reading."""
        memory: Memory = []
        for lstm, before in zip(self.controller.lstms, self.memory, strict=True):
            memory.append(lstm(read, before))
            read = memory[-1][0]
        return memory

    def _move(self, memory: Memory, following: Tensor, moved: Tensor) -> None:
        """Advance; a row without a decision keeps its state."""
        if not moved.all():
            rows = moved.to(following.device)[:, None]
            pairs = zip(memory, self.memory, strict=True)
            memory = [(torch.where(rows, h, old_h), torch.where(rows, c, old_c)) for (h, c), (old_h, old_c) in pairs]
            following = torch.where(rows, following, self.next)
        self.memory, self.next = memory, following

    def _decide(self, decision: Decision, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) options, and on the CPU whether each row takes this decision."""
        legal = [self.controller.space.options(decision, row) for row in self.choices]
        taken = torch.ones(len(legal), dtype=torch.bool)
        self.decided += torch.tensor([len(options) > 1 for options in legal])
        if any(options != decision.options for options in legal):
            mask = torch.tensor([[option in options for option in decision.options] for options in legal])
            taken = mask.any(1)
            logits = logits.masked_fill((~mask & taken[:, None]).to(logits.device), float("-inf"))
        logs = logits.log_softmax(-1)
        chosen = self.choose(decision, logs.detach())
        for row, option, is_taken in zip(self.choices, chosen.tolist(), taken.tolist(), strict=True):
            if is_taken:
                row[decision.name] = decision.options[option]
        chosen, counts = chosen.to(logs.device), taken.to(logs)
        self.logs.append(logs.gather(1, chosen[:, None])[:, 0] * counts)
        self.entropies.append(-(logs.exp() * logs.clamp(min=_LEAST)).sum(-1) * counts)
        return chosen, taken

    def _following(self, decisions: Sequence[Decision], chosen: Tensor) -> Tensor:
        """(B, hidden): input of the step after these decisions."""
        first, controller = decisions[0], self.controller
        if not (earlier := [node for decision in decisions for node in refers(decision)]):
            embedded: Tensor = controller.embeddings[controller.kinds[first.options]](chosen[:, 0])
            return embedded
        anchors = torch.stack([self.anchors[node] for node in earlier], 1)
        if first.is_index:
            return anchors[torch.arange(len(anchors), device=anchors.device), chosen[:, 0]]
        connected = chosen[:, :, None].to(anchors.dtype)
        return (connected * anchors).sum(1) / (1 + connected.sum(1))

    def drawn(self) -> Drawn:
        """The batch after the last step."""
        name, (logs, entropies) = self.controller.space.name, (torch.stack(p) for p in (self.logs, self.entropies))
        divergences = torch.stack(self.divergences).mean(0) if self.divergences else torch.zeros_like(logs[0])
        made = tuple(Architecture.of(name, choices) for choices in self.choices)
        return Drawn(made, logs.sum(0), entropies.sum(0), divergences, self.decided)
