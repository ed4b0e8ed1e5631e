"""Cells of NASNet, AmoebaNet and PNAS.

``space``: :class:`~lightning_nas.spaces.nasnet.space.NASNetSpace`, also AmoebaNet's. ``any_cell``:
:class:`~lightning_nas.spaces.nasnet.any_cell.NASNetCellSpace`, the published cells. ``pnas``:
:class:`~lightning_nas.spaces.nasnet.pnas.PNASSpace`. Shared: ``cells`` (base class), ``form`` (sizes of the network),
``networks`` (cells), ``operations``.
"""
