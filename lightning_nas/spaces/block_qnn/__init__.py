"""Blocks of Block-QNN: up to 23 layers, written as layer codes.

``space``: :class:`~lightning_nas.spaces.block_qnn.space.BlockQNNSpace`. ``code``: network structure codes.
``networks``: block and network.
"""
