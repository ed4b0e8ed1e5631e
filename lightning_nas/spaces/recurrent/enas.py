r"""The recurrent search space of ENAS (Pham et al., ICML 2018, arXiv:1802.03268, section 2.1).

A cell of N nodes: each chooses an activation f and, from the third on, one earlier node j,

.. math:: h_i = c \odot f(h_j W^h_{ij}) + (1 - c) \odot h_j, \qquad c = \sigma(h_j W^c_{ij}),

where every pair of nodes has matrices of its own; the first takes the word and the hidden state, the second the first.
The new hidden state is the mean of the loose ends. :math:`4^N (N - 1)!` cells.

Sizes are those of the authors' scripts. Differs from their code: weights of what was not drawn get no gradient instead
of zeros; the search's batch norm takes the statistics of the batch in evaluation too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import PositiveInt
from torch import Tensor

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ops.mixed import Choice, Mix, plain
from lightning_nas.ops.recurrent import ACTIVATIONS, LanguageModel
from lightning_nas.ranges import Nodes, Side, Width
from lightning_nas.spaces.base import Keys, Supernet, no_auxiliary
from lightning_nas.spaces.cell_graphs import CellGraph
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.language_models import SMALL_DROPS
from lightning_nas.spaces.meanings import activation_meaning
from lightning_nas.spaces.recurrent.base import RNNSupernet, SharedRecurrentSpace, recurrent_graphs
from lightning_nas.spaces.recurrent.enas_cells import OPERATIONS, OPTIONS, ChosenCell, MixedCell, input_group, pair_name
from lightning_nas.spaces.sizes import Probability, WindowShape, classes_of, sized_by_words


class ENASRNNSpace(SharedRecurrentSpace):
    r"""Recurrent cells of ENAS (Pham et al., ICML 2018, arXiv:1802.03268, section 2.1).

    .. math:: h_i = c \odot f(h_j W^h_{ij}) + (1 - c) \odot h_j, \qquad c = \sigma(h_j W^c_{ij})

    Two decisions a node: the earlier node j (``node_3_from``: ``s1``, ``s2``, ...; no decision for the first two nodes)
    and the activation f (``node_3_op``): :math:`4^N (N - 1)!` cells of N nodes. The new hidden state is the mean of the
    nodes that no other node takes.

    Networks and supernet are language models with tied embedding: words (N, T) in, logits (N, T, num_classes) out.
    Gates are one group for the input of each node, and one group with a row for every node's activation.

    Differs from the authors' code: weights of options that were not drawn get no gradient instead of zeros; the
    search's batch norm uses the statistics of the batch in evaluation too.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: T, words of a window, in place of ``bptt``. Every size that is not given then fits the vocabulary,
            see :mod:`lightning_nas.spaces.sizes`.
        bptt: number of words in a window; costs are those of one window.
        num_classes: number of words in the vocabulary.
        width: width of embedding and hidden state.
        nodes: number of nodes, at least 2.
        norm: batch norm without scale on the new hidden state, with the statistics of the batch, in the search.
        drop_words: dropout of whole words, see :class:`~lightning_nas.ops.recurrent.Dropouts`.
        drop_input: dropout of the embedding.
        drop_x: dropout of the input of the cell.
        drop_hidden: dropout of the nodes.
        drop_output: dropout of the input of the decoder.
        evaluation: arguments of the network that is retrained, where they differ; it has no norm.

    Raises:
        InputError: fewer than two nodes, or an unknown argument in ``evaluation``.

    Example:
        >>> space = ENASRNNSpace(input_shape=20, num_classes=1000)
        >>> space.name, len(space.decisions), space.meaning('identity')
        ('enas_rnn_small', 6, 'no activation')
        >>> import torch
        >>> space = ENASRNNSpace("toy", bptt=5, num_classes=11, width=8, nodes=3)
        >>> a = space.validate({"node_1_op": "tanh", "node_2_op": "relu", "node_3_from": "s1", "node_3_op": "tanh"})
        >>> tuple(space.network(a)(torch.zeros(2, 5, dtype=torch.int64)).shape)
        (2, 5, 11)
    """

    @sized_by_words(
        small={"name": "enas_rnn_small", "width": 32, "nodes": 4} | SMALL_DROPS,
        large={"evaluation": {"width": 748, "drop_input": 0.21, "drop_output": 0.76}},
    )
    def __init__(
        self,
        name: str = "enas_rnn",
        *,
        input_shape: WindowShape | None = None,
        bptt: Side = 35,
        num_classes: PositiveInt = 10_000,
        width: Width = 720,
        nodes: Nodes = 12,
        norm: bool = True,
        drop_words: Probability = 0.0,
        drop_input: Probability = 0.25,
        drop_x: Probability = 0.75,
        drop_hidden: Probability = 0.25,
        drop_output: Probability = 0.75,
        evaluation: Mapping[str, Any] | None = None,
    ) -> None:
        settings = {"bptt": bptt, "num_classes": num_classes, "width": width, "nodes": nodes, "norm": norm}
        drops = {"words": drop_words, "input": drop_input, "x": drop_x, "hidden": drop_hidden, "output": drop_output}
        super().__init__(name, settings | {f"drop_{where}": p for where, p in drops.items()}, evaluation)
        if nodes < 2:
            raise InputError(f"the space {name!r} needs at least 2 nodes, got {nodes}")
        self.steps = nodes
        self.decisions = tuple(_decisions(nodes))
        self.gate_options = {input_group(i): _names(i - 1) for i in range(3, nodes + 1)} | {OPERATIONS: OPTIONS}
        rows = {OPERATIONS: nodes}
        self.gate_shapes = {group: (rows.get(group, 1), len(names)) for group, names in self.gate_options.items()}

    def meaning(self, option: str) -> str:
        return activation_meaning(option)

    # -- networks -----------------------------------------------------------------------------------------------

    def empty(self) -> ChosenCell:
        return ChosenCell(self.width, ["tanh"], [], norm=self.norm)

    def chosen(self, architecture: Architecture) -> tuple[list[str], list[int]]:
        """Read the activation of every node, and the number (from 0) of the input of each node but the first."""
        choices, nodes = dict(self.validate(architecture).choices), range(1, self.steps + 1)
        sources = [0, *(int(choices[f"node_{i}_from"][1:]) - 1 for i in nodes[2:])]
        return [choices[f"node_{i}_op"] for i in nodes], sources

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> LanguageModel:
        """The language model with the chosen cell; never with an auxiliary classifier."""
        no_auxiliary(self, auxiliary)
        cell = ChosenCell(self.width, *self.chosen(architecture), norm=self.norm)
        return LanguageModel(classes_of(num_classes, self.num_classes), cell, self.drop)

    def supernet(self, mix: Mix | None = None) -> RNNSupernet:
        """The language model whose cell mixes all earlier nodes and activations."""
        choice = Choice(OPTIONS, lambda option, *_: ACTIVATIONS[option](), self.width, self.width)
        mixed = [(mix or plain)(choice) for _ in range(self.steps)]
        return RNNSupernet(LanguageModel(self.num_classes, MixedCell(self.width, mixed, norm=self.norm), self.drop))

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows: the earlier node of every node, and the activations."""
        options, sources = self.chosen(architecture)
        chosen = {input_group(i): [sources[i - 2]] for i in range(3, self.steps + 1)}
        return Gates.one_hot(chosen | {OPERATIONS: [OPTIONS.index(o) for o in options]}, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """Take the most probable node and activation everywhere; ties go to the first."""
        best, choices = probabilities[OPERATIONS].argmax(-1).tolist(), dict[str, str]()
        for i in range(1, self.steps + 1):
            if i > 2:
                choices[f"node_{i}_from"] = f"s{int(probabilities[input_group(i)][0].argmax()) + 1}"
            choices[f"node_{i}_op"] = OPTIONS[best[i - 1]]
        return Architecture.of(self.name, choices)

    def extract(self, supernet: Supernet, architecture: Architecture) -> LanguageModel:
        """Build the chosen cell with a copy of the weights, for each node the matrix of its input."""
        assert isinstance(supernet, RNNSupernet)
        network = self.network(architecture).to(next(supernet.parameters()))
        shared, state = supernet.model.state_dict(), {}
        steps = {f"cell.steps.{i - 1}": pair_name(i, j) for i, j in enumerate(self.chosen(architecture)[1], start=1)}
        for name in network.state_dict():
            state[name] = shared[f"cell.pairs.{steps[name]}" if name in steps else name]
        network.load_state_dict(state)
        return network

    def cell_graphs(self, architecture: Architecture) -> dict[str, CellGraph]:
        """The numbered nodes, activations on the edges between them, the mean of the loose ends."""
        (first, *others), sources = self.chosen(architecture)
        edges = [(j + 1, i, option) for i, (j, option) in enumerate(zip(sources, others, strict=True), start=2)]
        ends = [j + 1 for j in range(self.steps) if j not in sources]
        return recurrent_graphs(range(1, self.steps + 1), first, edges, ends)

    # -- cost ---------------------------------------------------------------------------------------------------

    def cost_keys(self, architecture: Architecture) -> Keys:
        """The fixed part, which contains the first node with any activation, and a step for each later node."""
        options, _ = self.chosen(architecture)
        return (self.words_key(), *(key for option in options[1:] for key in self.step_keys(option)))

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """The cost of a node does not depend on its input; the first node is in the fixed part."""
        rows: dict[str, tuple[tuple[Keys, ...], ...]] = {
            group: (((),) * options,) for group, (_, options) in self.gate_shapes.items()
        }
        row: tuple[Keys, ...] = tuple(map(self.step_keys, OPTIONS))
        first: tuple[Keys, ...] = ((),) * len(OPTIONS)
        return (self.words_key(),), rows | {OPERATIONS: (first, *(row,) * (self.steps - 1))}


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"s{i}" for i in range(1, count + 1))


def _decisions(nodes: int) -> Iterator[Decision]:
    """Yield input and activation of each node, in the order of the paper's controller."""
    for i in range(1, nodes + 1):
        node = f"node_{i}"
        if i > 2:
            yield Decision(f"{node}_from", _names(i - 1), node, refers=tuple(f"node_{j}" for j in range(1, i)))
        yield Decision(f"{node}_op", OPTIONS, node)
