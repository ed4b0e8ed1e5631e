"""Plain words for the names of options that several families share: operations, mobile blocks, activations."""

from __future__ import annotations

import re

from lightning_nas.ops.recurrent import ACTIVATIONS

_KINDS = {
    "conv": "convolution",
    "nor_conv": "convolution",
    "sep_conv": "separable convolution",
    "dil_conv": "dilated convolution",
    "dil_sep_conv": "dilated separable convolution",
    "max_pool": "max pooling",
    "avg_pool": "average pooling",
}
_FIXED = {
    "none": "no connection",
    "skip_connect": "identity, or a convolution where the shape changes",
    "identity": "identity",
}


def operation_meaning(option: str) -> str:
    """Explain the name of an operation of a cell, or of several joined by "+"; an unknown name is returned as it is.

    >>> operation_meaning("sep_conv_5x5"), operation_meaning("conv_1x7_7x1")
    ('5x5 separable convolution', '1x7 and 7x1 convolutions in sequence')
    >>> operation_meaning("max_pool_3x3+skip_connect")
    '3x3 max pooling plus identity, or a convolution where the shape changes'
    """
    if "+" in option:
        return " plus ".join(map(operation_meaning, option.split("+")))
    if option in _FIXED:
        return _FIXED[option]
    if found := re.fullmatch(r"(conv|narrow)_(\dx\d)_(\dx\d)", option):
        narrow = " with a quarter of the channels" if found[1] == "narrow" else ""
        return f"{found[2]} and {found[3]} convolutions in sequence{narrow}"
    kind, _, kernel = option.rpartition("_")
    if kind in _KINDS:
        return f"{kernel} {_KINDS[kind]}"
    return _KINDS.get(option, option)


def block_meaning(option: str) -> str:
    """Explain the name of an inverted bottleneck (MBConv); an unknown name is returned as it is.

    >>> block_meaning("k5_e6"), block_meaning("k3_e1_g2")
    ('5x5 kernel, expansion 6', '3x3 kernel, expansion 1, 2 groups in the 1x1 convolutions')
    """
    found = re.fullmatch(r"k(\d)_e(\d)(?:_g(\d))?", option)
    if not found:
        return option
    groups = f", {found[3]} groups in the 1x1 convolutions" if found[3] else ""
    return f"{found[1]}x{found[1]} kernel, expansion {found[2]}{groups}"


def state_meaning(state: int, *, first_node: int = 0) -> str:
    """Name a state of a cell: states 0 and 1 are the outputs of the two cells before, the others are nodes.

    Args:
        state: number of the state, from 0.
        first_node: number that the family gives to the first node.

    >>> [state_meaning(state) for state in range(3)]
    ['output of cell k-2', 'output of cell k-1', 'node 0']
    """
    return f"output of cell k-{2 - state}" if state < 2 else f"node {state - 2 + first_node}"


def states_meaning(option: str, *, first_node: int = 0) -> str:
    """Explain an option that lists states, such as "0,2"; any other option is returned as it is.

    >>> states_meaning("0,2")
    'output of cell k-2, node 0'
    """
    if not re.fullmatch(r"\d+(,\d+)*", option):
        return option
    return ", ".join(state_meaning(int(state), first_node=first_node) for state in option.split(","))


def pair_meaning(option: str) -> str:
    """Explain an option of cells whose nodes are numbered from 2: an input such as "s2", a join, or an operation.

    >>> pair_meaning("s1"), pair_meaning("s3"), pair_meaning("concat")
    ('output of cell k-1', 'node 3', 'concatenation of both results')
    """
    if found := re.fullmatch(r"s(\d+)", option):
        return state_meaning(int(found[1]), first_node=2)
    joins = {"add": "sum of both results", "concat": "concatenation of both results"}
    return joins.get(option) or operation_meaning(option)


def activation_meaning(option: str) -> str:
    """Explain an option of a recurrent node: an activation, or an earlier node; any other name is returned as it is.

    >>> activation_meaning("tanh"), activation_meaning("s2"), activation_meaning("identity")
    ('tanh activation', 'node 2', 'no activation')
    """
    if found := re.fullmatch(r"(?:s|node_)(\d+)", option):
        return f"node {found[1]}"
    if option in ("identity", "none"):
        return "no activation"
    return f"{option} activation" if option in ACTIVATIONS else option
