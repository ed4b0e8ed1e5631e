"""Counts of multiply-adds and parameters, of a network and of every operation of a search space."""

from typing import Literal

import torch

from lightning_nas.latency.table import Entry, LatencyTable
from lightning_nas.ops.counts import count_macs as count_macs
from lightning_nas.ops.counts import count_params as count_params
from lightning_nas.spaces.base import SearchSpace


def count_space(space: SearchSpace, unit: Literal["MACs", "params"]) -> LatencyTable:
    """Count the multiply-adds for one example, or the parameters, of every operation of a search space.

    The counts of a network's operations add up to that of the whole network exactly.

    Args:
        space: the search space.
        unit: what is counted.
    """
    entries = {}
    with torch.device("meta"):  # only shapes matter, so no weight is made and no random number drawn
        for key, operation in space.operations().items():
            network = operation.build()
            if unit == "MACs":
                count = count_macs(network, operation.input_shape, operation.dtype)
            else:
                count = count_params(network)
            entries[key] = Entry(median=count, iqr=0.0)
    return LatencyTable(unit=unit, device="any (counted)", space=space.name, space_digest=space.digest, entries=entries)
