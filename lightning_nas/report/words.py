"""The code names of options in plain words: ``k5_e6`` is a 5x5 kernel with expansion 6."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WHOLE = {
    "skip": "no operation: the input is passed on",
    "skip_connect": "no operation: the input is passed on",
    "identity": "no operation: the input is passed on",
    "none": "no connection",
    "zero": "no connection: the layer is left out",
    "xception": "Xception block: three 3x3 depthwise separable convolutions",
    "terminal": "end of the block",
    "conv": "convolution",
    "sep_conv": "depthwise separable convolution",
    "max_pool": "max pooling",
    "avg_pool": "average pooling",
    "add": "sum of the inputs",
    "concat": "concatenation of the inputs",
    "s0": "input 1: output of the cell before the last one",
    "s1": "input 2: output of the last cell",
    "tanh": "hyperbolic tangent",
    "relu": "rectified linear unit",
    "sigmoid": "logistic sigmoid",
    "elem_mult": "element-wise product",
}
_CELL = {
    "conv": "convolution",
    "nor_conv": "convolution",
    "sep_conv": "depthwise separable convolution",
    "dil_conv": "dilated depthwise separable convolution",
    "dil_sep_conv": "dilated depthwise separable convolution",
    "narrow": "convolution with a narrow middle",
    "max_pool": "max pooling",
    "avg_pool": "average pooling",
}
_CODES = (
    (r"k(\d+)", "{0}x{0} kernel"),
    (r"e(\d+)", "expansion {0}"),
    (r"g(\d+)", "{0} groups"),
    (r"w(\d+)", "{0} % of the width"),
    (r"se", "squeeze and excitation"),
)


def meaning(option: str) -> str | None:
    """What an option's code name says; None where it is no code (a number, a yes or no) or is not known.

    >>> meaning("k5_e6"), meaning("k3_e1_g2")
    ('5x5 kernel, expansion 6', '3x3 kernel, expansion 1, 2 groups')
    >>> meaning("sep_conv_3x3"), meaning("conv_1x7_7x1")
    ('3x3 depthwise separable convolution', '1x7 then 7x1 convolution')
    >>> meaning("s0+skip_connect") is None, meaning("0.25")
    (False, None)
    """
    if option in _WHOLE:
        return _WHOLE[option]
    if state := re.fullmatch(r"s(\d+)", option):
        return f"output of node {state[1]} of the cell"
    if re.fullmatch(r"\d+(,\d+)+", option):
        return f"states {' and '.join(option.split(','))} of the cell; 0 and 1 are its inputs"
    if node := re.fullmatch(r"node_(\d+)", option):
        return f"output of node {node[1]}"
    if block := re.fullmatch(r"mbconv(\d+)", option):
        return f"inverted bottleneck (MBConv), expansion {block[1]}"
    if operation := re.fullmatch(r"([a-z_]+?)_(\d+x\d+)(?:_(\d+x\d+))?", option):
        name, first, second = operation.groups()
        return f"{first}{f' then {second}' if second else ''} {_CELL[name]}" if name in _CELL else None
    if "+" in option:
        each = [meaning(part) for part in option.split("+")]
        return " and ".join(part for part in each if part) if all(each) else None
    return _coded(option)


def _coded(option: str) -> str | None:
    said = []
    for code in option.split("_"):
        found = next(((match, form) for pattern, form in _CODES if (match := re.fullmatch(pattern, code))), None)
        if found is None:
            return None
        said.append(found[1].format(*found[0].groups()))
    return ", ".join(said)


def glossary(options: Iterable[str]) -> list[tuple[str, str]]:
    """Each different code name among the options and its meaning, in the order of the alphabet.

    >>> glossary(["skip", "k3", "3", "k3"])
    [('k3', '3x3 kernel'), ('skip', 'no operation: the input is passed on')]
    """
    known = ((option, meaning(option)) for option in sorted(set(options)))
    return [(option, words) for option, words in known if words]
