"""Convolutional cells of DARTS.

``space``: :class:`~lightning_nas.spaces.darts.space.DARTSSpace`. ``any_cell``:
:class:`~lightning_nas.spaces.darts.any_cell.DARTSCellSpace`, cells of other papers in DARTS' network. ``form``: sizes
of the network. ``networks``: cells, network and supernet.
"""
