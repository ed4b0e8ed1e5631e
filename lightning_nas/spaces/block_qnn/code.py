"""Network structure codes of Block-QNN (Zhong et al., CVPR 2018, arXiv:1708.05552): a block as a list of layer codes.

Q-learning goes layer by layer: the state is the code of a layer, the action that of the next.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from lightning_nas.errors import InvalidArchitecture, shown

TYPES = ("conv", "max_pool", "avg_pool", "identity", "add", "concat", "terminal")
"""Types of layers; a code counts them from 1."""

KERNELS = {"conv": (1, 3, 5), "max_pool": (1, 3), "avg_pool": (1, 3)}
JOINS = ("add", "concat")
_CODE = re.compile(r"\((\d{1,3}),(\d),(\d),(\d{1,3}),(\d{1,3})\)")


class LayerCode(NamedTuple):
    """One layer of a block.

    Attributes:
        layer: its number, from 1.
        type: number of its type, from 1.
        kernel: size, 0 for a layer without.
        pred1: the layer it works on, 0 for the input of the block.
        pred2: the other one for layers that have two, else 0.

    Example:
        >>> print(LayerCode(2, 1, 3, 1, 0), LayerCode(2, 1, 3, 1, 0).kind)
        (2,1,3,1,0) conv
    """

    layer: int
    type: int
    kernel: int
    pred1: int
    pred2: int

    def __str__(self) -> str:
        return f"({','.join(map(str, self))})"

    @property
    def kind(self) -> str:
        """Name of its type."""
        return TYPES[self.type - 1]

    @property
    def predecessors(self) -> tuple[int, ...]:
        """The layers it works on."""
        if self.kind == "terminal":
            return ()
        return (self.pred1, self.pred2) if self.kind in JOINS else (self.pred1,)


@lru_cache(maxsize=256)
def legal_codes(index: int, longest: int) -> tuple[LayerCode, ...]:
    """Every code that the layer ``index`` of a block can have; the last of ``longest`` layers is the terminal.

    >>> [len(legal_codes(index, longest=23)) for index in (1, 2, 3, 4, 23)]
    [8, 21, 37, 57, 1]
    """
    terminal = LayerCode(index, len(TYPES), 0, 0, 0)
    if index == longest:
        return (terminal,)
    made = []
    for number, kind in enumerate(TYPES[:-1], start=1):
        earlier = itertools.permutations(range(index), 2) if kind in JOINS else ((p, 0) for p in range(index))
        before = list(earlier)
        made += [LayerCode(index, number, k, *pair) for k in KERNELS.get(kind, (0,)) for pair in before]
    return tuple(made) if index == 1 else (*made, terminal)


def checked(codes: Sequence[LayerCode], longest: int) -> tuple[LayerCode, ...]:
    """The codes of a whole block, the terminal included.

    Raises:
        InvalidArchitecture: says which code cannot stand where it does.
    """
    for index, code in enumerate(codes, start=1):
        if code.layer != index or code not in legal_codes(index, longest):
            raise InvalidArchitecture(f"no layer {index} of a block of up to {longest} has the code {shown(str(code))}")
        if (code.kind == "terminal") != (index == len(codes)):
            raise InvalidArchitecture(f"a block ends with its terminal layer, as {shown(str(code))} of {len(codes)}")
    if not codes:
        raise InvalidArchitecture("a block has one layer and its terminal at least, got no code")
    return tuple(codes)


def parsed(text: str) -> tuple[LayerCode, ...]:
    """Read codes separated by spaces, as :func:`written` writes them.

    Raises:
        InvalidArchitecture: text of another form. Whether the codes make a block is not checked.

    Example:
        >>> parsed("(1,1,5,0,0) (2,7,0,0,0)")[0].kind
        'conv'
        >>> written(parsed("(1,1,5,0,0) (2,7,0,0,0)"))
        '(1,1,5,0,0) (2,7,0,0,0)'
    """
    codes = []
    for word in text.split():
        found = _CODE.fullmatch(word)
        if not found or not 1 <= int(found[2]) <= len(TYPES):
            raise InvalidArchitecture(f"a layer code is (index,type,kernel,pred1,pred2), got {shown(word)}")
        codes.append(LayerCode(*map(int, found.groups())))
    return tuple(codes)


def written(codes: Sequence[LayerCode]) -> str:
    """The inverse of :func:`parsed`."""
    return " ".join(map(str, codes))


def loose(codes: Sequence[LayerCode]) -> tuple[int, ...]:
    """List the layers that no other layer works on: together they are the output of the block.

    >>> loose(parsed("(1,1,5,0,0) (2,1,3,0,0) (3,4,0,1,0) (4,7,0,0,0)"))
    (2, 3)
    """
    used = {p for code in codes for p in code.predecessors}
    return tuple(code.layer for code in codes if code.kind != "terminal" and code.layer not in used)


def density(codes: Sequence[LayerCode]) -> float:
    """Edges over nodes of the block's graph: the input and the layers, the terminal left out.

    >>> density(parsed("(1,1,5,0,0) (2,1,3,0,0) (3,5,0,1,2) (4,7,0,0,0)"))
    1.0
    """
    layers = [code for code in codes if code.kind != "terminal"]
    return sum(len(code.predecessors) for code in layers) / (len(layers) + 1)
