"""Fused forms of mixed operations: the same numbers and the same state as ``ops/mixed.py``, faster."""

from lightning_nas.ops.mixed import MixedOp


class FusedMixedBlock(MixedOp):
    """Placeholder."""
