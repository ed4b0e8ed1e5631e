"""The networks of ENAS' micro space (arXiv:1802.03268): cells stacked, as they are searched and as they are retrained.

A cell has two inputs, the outputs of the two cells before it (states 0 and 1), and nodes (states 2, 3, ...), each the
sum of two operations on earlier states, which may be the same one. States that no node uses are its output.

Both networks have a reduction cell after a third and after two thirds of the others. In the search a halving stands
before it, its operations have stride 1, and a 1x1 convolution takes every cell's output to the cell's width. The
network that is retrained has stride 2 on the inputs of a reduction cell, one more 1x1 convolution on every cell's
second input, and concatenation alone at the end.
"""

from __future__ import annotations

from torch import nn

from lightning_nas.ops.blocks import relu_conv_bn
from lightning_nas.ops.cells import Concatenate, DropPath, FactorizedReduction
from lightning_nas.spaces.cells.genotype import Genotype
from lightning_nas.spaces.cells.place import CellPlace
from lightning_nas.spaces.cells.stacked import GenotypeCell
from lightning_nas.spaces.enas.operations import Combine


def searched_cell(place: CellPlace, genotype: Genotype) -> GenotypeCell:
    """A cell as it is in the search."""
    operations = [place.operation(option, state) for node in genotype.nodes for option, state in node]
    output = Combine(place.channels, genotype.concat)
    return GenotypeCell(place.calibrate(), genotype, operations, output, nn.Identity())


def retrained_cell(place: CellPlace, genotype: Genotype, share: float) -> GenotypeCell:
    """A cell of the network that is retrained.

    Args:
        place: where it stands.
        genotype: what it is made of.
        share: of the probability with which paths are dropped.
    """
    first, second = place.calibrate()
    second = nn.Sequential(second, relu_conv_bn(place.channels, place.channels))
    operations = [place.operation(option, state) for node in genotype.nodes for option, state in node]
    halved = [j for j in genotype.concat if place.edge(j)[1] == 2]
    output = Concatenate({j: FactorizedReduction(place.channels, place.channels, relu=False) for j in halved})
    return GenotypeCell([first, second], genotype, operations, output, DropPath(share))
