"""Dense prediction cells on the features of a backbone.

``space``: :class:`~lightning_nas.spaces.dpc.space.DPCSpace`. ``networks``: branches, cell, backbones, network.
"""
