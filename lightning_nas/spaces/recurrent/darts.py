r"""The recurrent search space of DARTS (Liu et al., ICLR 2019, arXiv:1806.09055, section 3.1.2 and appendix A.1.2).

A cell of nodes after ENAS (arXiv:1802.03268): node i takes one earlier state :math:`s_j` and an activation f,

.. math:: s_i = s_j + \sigma(c) \odot (f(g) - s_j), \qquad [c, g] = s_j W_i,

where :math:`W_i` is the node's own, whatever its predecessor; the new hidden state is the mean of the states. In the
supernet a node is the sum over all predecessors and all activations, weighted by the gates; "none" adds nothing.

Differs from the authors' code: the search's batch norm takes the statistics of the batch in evaluation too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import Zero
from lightning_nas.ops.mixed import Choice, Mix
from lightning_nas.ops.recurrent import ACTIVATIONS, LanguageModel
from lightning_nas.ranges import Nodes, Side, Width
from lightning_nas.spaces.base import Keys, Supernet, Taken, no_auxiliary
from lightning_nas.spaces.cell_graphs import CellGraph
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.language_models import SMALL_DROPS
from lightning_nas.spaces.meanings import activation_meaning
from lightning_nas.spaces.recurrent.base import RNNSupernet, SharedRecurrentSpace, recurrent_graphs
from lightning_nas.spaces.recurrent.cells import GROUP, OPTIONS, FixedCell, MixedCell
from lightning_nas.spaces.sizes import Probability, WindowShape, classes_of, sized_by_words


class DARTSRNNSpace(SharedRecurrentSpace):
    r"""Recurrent cells of DARTS (Liu et al., ICLR 2019, arXiv:1806.09055, section 3.1.2 and appendix A.1.2).

    .. math:: s_i = s_j + \sigma(c) \odot (f(g) - s_j), \qquad [c, g] = s_j W_i

    Two decisions a node: its predecessor j (``node_2_from``: ``s0``, ``s1``, ...; ``s0`` is made of the word and the
    hidden state) and its activation f (``node_2_op``): :math:`8! \cdot 4^8 \approx 2.6 \cdot 10^9` cells of 8 nodes.
    The new hidden state is the mean of the nodes.

    Networks and supernet are language models with tied embedding: words (N, T) in, logits (N, T, num_classes) out.
    Gates are one group, "steps", with a row for each pair of a node and an earlier state.

    Differs from the authors' code: the search's batch norm uses the statistics of the batch in evaluation too.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: T, words of a window, in place of ``bptt``. Every size that is not given then fits the vocabulary,
            see :mod:`lightning_nas.spaces.sizes`.
        bptt: number of words in a window; costs are those of one window.
        num_classes: number of words in the vocabulary.
        width: width of embedding and hidden state.
        steps: number of nodes.
        outputs: numbers of the states whose mean is the new hidden state, from 0; None for all nodes.
        norm: batch norm without scale on every state, with the statistics of the batch, as in the authors' search.
        drop_words: dropout of whole words, see :class:`~lightning_nas.ops.recurrent.Dropouts`.
        drop_input: dropout of the embedding.
        drop_x: dropout of the input of the cell.
        drop_hidden: dropout of the states.
        drop_output: dropout of the input of the decoder.
        evaluation: arguments of the network that is retrained, where they differ; it has no norm.

    Raises:
        InputError: an output that is no state, or an unknown argument in ``evaluation``.

    Example:
        >>> space = DARTSRNNSpace(input_shape=20, num_classes=1000)
        >>> space.name, len(space.decisions), space.meaning('s0')
        ('darts_rnn_small', 8, 'state 0, made of word and hidden state')
        >>> import torch
        >>> space = DARTSRNNSpace("toy", bptt=5, num_classes=11, width=8, steps=1)
        >>> a = space.validate({"node_1_from": "s0", "node_1_op": "tanh"})
        >>> tuple(space.network(a)(torch.zeros(2, 5, dtype=torch.int64)).shape)
        (2, 5, 11)
    """

    @sized_by_words(
        small={"name": "darts_rnn_small", "width": 32, "steps": 4} | SMALL_DROPS,
        large={"evaluation": {"width": 850, "drop_words": 0.1}},
    )
    def __init__(
        self,
        name: str = "darts_rnn",
        *,
        input_shape: WindowShape | None = None,
        bptt: Side = 35,
        num_classes: PositiveInt = 10_000,
        width: Width = 300,
        steps: Nodes = 8,
        outputs: Sequence[NonNegativeInt] | None = None,
        norm: bool = True,
        drop_words: Probability = 0.0,
        drop_input: Probability = 0.2,
        drop_x: Probability = 0.75,
        drop_hidden: Probability = 0.25,
        drop_output: Probability = 0.75,
        evaluation: Mapping[str, Any] | None = None,
    ) -> None:
        settings: dict[str, Any] = {
            "bptt": bptt,
            "num_classes": num_classes,
            "width": width,
            "steps": steps,
            "outputs": outputs,
        }
        drops = {"words": drop_words, "input": drop_input, "x": drop_x, "hidden": drop_hidden, "output": drop_output}
        settings |= {"norm": norm} | {f"drop_{where}": p for where, p in drops.items()}
        super().__init__(name, settings, evaluation)
        self.outputs = tuple(range(1, steps + 1)) if outputs is None else tuple(outputs)
        if wrong := [i for i in self.outputs if not 0 <= i <= steps]:
            raise InputError(f"the space {name!r} has the states 0 to {steps}; {wrong[0]} in its outputs is none")
        self.steps = steps
        self.edges = tuple((i, j) for i in range(1, steps + 1) for j in range(i))
        self.decisions = tuple(decision for i in range(1, steps + 1) for decision in _decisions(i))
        self.gate_shapes = {GROUP: (len(self.edges), len(OPTIONS))}
        self.gate_options = {GROUP: OPTIONS}

    def nodes(self, group: str) -> tuple[int, ...]:
        return tuple(i - 1 for i, _ in self.edges)

    def meaning(self, option: str) -> str:
        return "state 0, made of word and hidden state" if option == "s0" else activation_meaning(option)

    # -- networks -----------------------------------------------------------------------------------------------

    def empty(self) -> FixedCell:
        return self._cell(())

    def _cell(self, chosen: Sequence[tuple[int, str]]) -> FixedCell:
        return FixedCell(self.width, chosen, self.outputs if chosen else (0,), norm=self.norm)

    def _chosen(self, architecture: Architecture) -> list[tuple[int, str]]:
        """(number of the predecessor, activation) of each node."""
        options = self.validate(architecture).options
        return [(int(source[1:]), option) for source, option in zip(options[::2], options[1::2], strict=True)]

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> LanguageModel:
        """The language model with the chosen cell; never with an auxiliary classifier."""
        no_auxiliary(self, auxiliary)
        return LanguageModel(
            classes_of(num_classes, self.num_classes), self._cell(self._chosen(architecture)), self.drop
        )

    def supernet(self, mix: Mix | None = None) -> RNNSupernet:
        """The language model whose cell mixes all predecessors and activations.

        With a ``mix``, each edge has the module it makes; without one, the edges of a node are mixed at once.
        """
        choice = Choice(OPTIONS, lambda option, *_: ACTIVATIONS.get(option, Zero)(), self.width, self.width)
        mixed = None if mix is None else [mix(choice) for _ in self.edges]
        cell = MixedCell(self.width, self.steps, self.outputs, mixed, norm=self.norm)
        return RNNSupernet(LanguageModel(self.num_classes, cell, self.drop))

    def gates(self, architecture: Architecture) -> Gates:
        """The chosen activation on the edge from the chosen predecessor, "none" on the others."""
        chosen = dict(enumerate(self._chosen(architecture), start=1))
        rows = [OPTIONS.index(chosen[i][1]) if chosen[i][0] == j else 0 for i, j in self.edges]
        return Gates.one_hot({GROUP: rows}, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """Take the edge and activation with the largest weight of each node, without "none"; ties go to the first."""
        rows, choices = probabilities[GROUP][:, 1:], dict[str, str]()
        for i in range(1, self.steps + 1):
            first = i * (i - 1) // 2
            source, option = divmod(int(rows[first : first + i].reshape(-1).argmax()), len(OPTIONS) - 1)
            choices |= {f"node_{i}_from": f"s{source}", f"node_{i}_op": OPTIONS[1 + option]}
        return Architecture.of(self.name, choices)

    def parts(self) -> tuple[tuple[Taken, ...], ...]:
        """A part for each node: one of the edges that lead to it, with an activation other than "none"."""
        return tuple(
            tuple(
                ((GROUP, edge, option),)
                for edge, (end, _) in enumerate(self.edges)
                if end == node
                for option in range(1, len(OPTIONS))
            )
            for node in range(1, self.steps + 1)
        )

    def extract(self, supernet: Supernet, architecture: Architecture) -> LanguageModel:
        """The chosen cell with a copy of all weights: every node's matrix is the same for all of its choices."""
        assert isinstance(supernet, RNNSupernet)
        network = self.network(architecture).to(next(supernet.parameters()))
        shared = supernet.model.state_dict()
        network.load_state_dict({name: shared[name] for name in network.state_dict()})
        return network

    def cell_graphs(self, architecture: Architecture) -> dict[str, CellGraph]:
        """The numbered states, activations on the edges between them."""
        edges = [(j, i, option) for i, (j, option) in enumerate(self._chosen(architecture), start=1)]
        return recurrent_graphs(range(self.steps + 1), "", edges, self.outputs)

    # -- cost ---------------------------------------------------------------------------------------------------

    def cost_keys(self, architecture: Architecture) -> Keys:
        """The fixed part and one step a node."""
        return (self.words_key(), *(self.step_keys(option)[0] for _, option in self._chosen(architecture)))

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """Every activation on every edge adds a step; exact for architectures, which have one edge a node."""
        row = tuple(self.step_keys(option) for option in OPTIONS)
        return (self.words_key(),), {GROUP: (row,) * len(self.edges)}


def _decisions(node: int) -> tuple[Decision, Decision]:
    name, sources = f"node_{node}", tuple(f"s{j}" for j in range(node))
    earlier = tuple(f"node_{j}" for j in range(node))  # nothing is decided of node 0, the first state
    return Decision(f"{name}_from", sources, name, refers=earlier), Decision(f"{name}_op", OPTIONS[1:], name)
