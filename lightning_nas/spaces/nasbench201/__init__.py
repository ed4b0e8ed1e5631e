"""Topology space of NAS-Bench-201.

``space``: :class:`~lightning_nas.spaces.nasbench201.space.NASBench201Space`. ``operations``: operations, cells and
network.
"""
