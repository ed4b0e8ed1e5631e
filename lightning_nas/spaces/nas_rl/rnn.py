r"""The recurrent search space of NAS-RL (Zoph and Le, ICLR 2017, arXiv:1611.01578, section 3.4).

A cell with two states is a complete binary tree. Every node takes a combination, sum or product by elements, and an
activation; leaf k is :math:`f(W_{2k+1} x_t \circ W_{2k+2} h_{t-1})`, a node above combines two below it and has no
weights. The last cell state comes in at one node by a combination and an activation of its own, and the new cell state
is the value of one node before its activation; the new hidden state is the output of the root. With B leaves there are
:math:`8^{2B-1} \cdot 8 \cdot (2B-1)^2` cells, 6.3e16 with 8.

Differs from the paper: dropout is variational (arXiv:1512.05287), the embedding is the decoder, and the network that is
retrained has the settings of ``evaluation`` and not of a grid search. Biases are left out, as in the published cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any

from annotated_types import Interval
from pydantic import PositiveInt

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.ops.recurrent import ACTIVATIONS, LanguageModel
from lightning_nas.ranges import Depth, Side, Width
from lightning_nas.spaces.base import Keys, Operation, no_auxiliary
from lightning_nas.spaces.cell_graphs import CellGraph, cell_graph
from lightning_nas.spaces.language_models import SMALL_DROPS, RecurrentSpace
from lightning_nas.spaces.meanings import activation_meaning
from lightning_nas.spaces.nas_rl.tree_cells import COMBINATIONS, Activations, Rule, Tree, TreeCells
from lightning_nas.spaces.sizes import Probability, WindowShape, classes_of, sized_by_words

OPTIONS = tuple(ACTIVATIONS)


class NASRLRNNSpace(RecurrentSpace):
    r"""Recurrent cells that are complete binary trees: NAS-RL (Zoph & Le, ICLR 2017, arXiv:1611.01578, section 3.4).

    With B leaves there are :math:`8^{2B-1} \cdot 8 \cdot (2B-1)^2` cells, 6.3e16 with 8. Two decisions a node, from the
    leaves up: ``node_0_combine`` ("add" or "elem_mult", the product by elements) and ``node_0_op``, the activation;
    then ``inject_combine`` and ``inject_op``, and the cell indices: ``memory_from``, the node whose value is
    remembered, and ``inject_at``, the node that the last cell state is combined with. It has no supernet.

    Networks are language models with tied embedding: words (N, T) in, logits (N, T, num_classes) out.

    Differs from the paper: dropout is variational (arXiv:1512.05287), the embedding is the decoder, and there are no
    biases, as in the published cell.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: T, words of a window, in place of ``bptt``. Every size that is not given then fits the vocabulary,
            see :mod:`lightning_nas.spaces.sizes`.
        bptt: number of words in a window; costs are those of one window.
        num_classes: number of words in the vocabulary.
        width: width of embedding and states.
        base: number of leaves of the tree.
        layers: number of stacked cells.
        drop_words: dropout of whole words, see :class:`~lightning_nas.ops.recurrent.Dropouts`.
        drop_input: dropout of the embedding.
        drop_x: dropout of the input of each layer.
        drop_hidden: dropout of the hidden states.
        drop_output: dropout of the input of the decoder.
        evaluation: arguments of the network that is retrained, where they differ.

    Raises:
        InputError: fewer than two leaves, or an unknown argument in ``evaluation``.

    Example:
        >>> space = NASRLRNNSpace(input_shape=20, num_classes=1000)
        >>> space.name, len(space.decisions), space.meaning('elem_mult')
        ('nas_rl_rnn_small', 18, 'product by elements')
        >>> import torch
        >>> space = NASRLRNNSpace("toy", bptt=5, num_classes=11, width=8, base=2)
        >>> a = space.sample(torch.Generator().manual_seed(0))
        >>> tuple(space.network(a)(torch.zeros(2, 5, dtype=torch.int64)).shape)
        (2, 5, 11)
    """

    @sized_by_words(
        small={"name": "nas_rl_rnn_small", "width": 32, "base": 4, "layers": 1} | SMALL_DROPS,
        large={"evaluation": {"width": 740}},
    )
    def __init__(
        self,
        name: str = "nas_rl_rnn",
        *,
        input_shape: WindowShape | None = None,
        bptt: Side = 35,
        num_classes: PositiveInt = 10_000,
        width: Width = 650,
        base: Annotated[int, Interval(ge=2, le=64)] = 8,
        layers: Depth = 2,
        drop_words: Probability = 0.0,
        drop_input: Probability = 0.0,
        drop_x: Probability = 0.5,
        drop_hidden: Probability = 0.0,
        drop_output: Probability = 0.5,
        evaluation: Mapping[str, Any] | None = None,
    ) -> None:
        settings = {"bptt": bptt, "num_classes": num_classes, "width": width, "base": base, "layers": layers}
        drops = {"words": drop_words, "input": drop_input, "x": drop_x, "hidden": drop_hidden, "output": drop_output}
        super().__init__(name, settings | {f"drop_{where}": p for where, p in drops.items()}, evaluation)
        self.base, self.layers, self.steps = base, layers, 2 * base - 1
        self.decisions = tuple(_decisions(self.steps))

    def meaning(self, option: str) -> str:
        combinations = {"add": "sum", "elem_mult": "product by elements"}
        return combinations.get(option) or activation_meaning(option)

    # -- networks -----------------------------------------------------------------------------------------------

    def chosen(self, architecture: Architecture) -> Tree:
        """The tree."""
        choices = dict(self.validate(architecture).choices)
        *nodes, inject = (
            Rule(choices[f"{node}_combine"], choices[f"{node}_op"]) for node in (*_names(self.steps), "inject")
        )
        memory, injected = (int(choices[index].removeprefix("node_")) for index in ("memory_from", "inject_at"))
        return Tree(tuple(nodes), inject, memory, injected)

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> LanguageModel:
        """The language model with the chosen cell in each layer; never with an auxiliary classifier."""
        no_auxiliary(self, auxiliary)
        cells = TreeCells(self.width, self.chosen(architecture), self.layers)
        return LanguageModel(classes_of(num_classes, self.num_classes), cells, self.drop)

    def cell_graphs(self, architecture: Architecture) -> dict[str, CellGraph]:
        """Draw the tree: nodes are combinations, and the activation of a node is on the edges that leave it."""
        tree = self.chosen(architecture)
        word, before, memory = "x_{t}", "h_{t-1}", "c_{t-1}"
        states, edges = {word: word, before: before, memory: memory}, list[tuple[str, str, str]]()
        leaving = dict[int, tuple[str, str]]()  # of each node where its output is drawn from, and the activation there
        for i, rule in enumerate(tree.nodes):
            states[str(i)] = f"{i}\n{rule.combination}"
            children = tree.children(i)
            into = [(word, ""), (before, "")] if children is None else [leaving[child] for child in children]
            edges += [(source, str(i), activation) for source, activation in into]
            leaving[i] = (str(i), rule.activation)
            if i == tree.injected:
                states["inject"] = f"inject\n{tree.inject.combination}"
                edges += [(str(i), "inject", rule.activation), (memory, "inject", "")]
                leaving[i] = ("inject", tree.inject.activation)
        edges.append((leaving[self.steps - 1][0], "h_{t}", leaving[self.steps - 1][1]))
        edges.append((str(tree.memory), "c_{t}", ""))
        return {"recurrent cell": cell_graph(states | {"c_{t}": "c_{t}", "h_{t}": "h_{t}"}, edges)}

    # -- cost ---------------------------------------------------------------------------------------------------

    def empty(self) -> TreeCells:
        nothing = Rule("add", "identity")
        return TreeCells(self.width, Tree((nothing,) * self.steps, nothing, 0, 0), self.layers)

    def _keys(self, option: str) -> Keys:
        return () if option == "identity" else (f"{option} {self.input_shape[0]}x{self.width}",)

    def operations(self) -> dict[str, Operation]:
        """A language model whose cells add only, and each activation; all for one window."""
        shape = (*self.input_shape, self.width)
        activations = {key: Operation(partial(Activations, o), shape) for o in OPTIONS for key in self._keys(o)}
        return {self.words_key(): self.words()} | activations

    def cost_keys(self, architecture: Architecture) -> Keys:
        """The fixed part with all weights, and the activations of every layer; sums and products cost the same."""
        tree = self.chosen(architecture)
        used = Counter(rule.activation for rule in (*tree.nodes, tree.inject))
        keys = (key for option in OPTIONS for key in self._keys(option) * (used[option] * self.layers))
        return (self.words_key(), *keys)


def _names(nodes: int) -> tuple[str, ...]:
    return tuple(f"node_{i}" for i in range(nodes))


def _decisions(nodes: int) -> Iterator[Decision]:
    """In the order in which the paper's controller takes them."""
    names = _names(nodes)
    for node in (*names, "inject"):
        yield Decision(f"{node}_combine", tuple(COMBINATIONS), node)
        yield Decision(f"{node}_op", OPTIONS, node)
    for index in ("memory_from", "inject_at"):
        yield Decision(index, names, refers=names)
