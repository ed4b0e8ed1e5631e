"""Recurrent cells for language modelling whose nodes share matrices in a supernet.

``darts``: :class:`~lightning_nas.spaces.recurrent.darts.DARTSRNNSpace`, with its ``cells``. ``enas``:
:class:`~lightning_nas.spaces.recurrent.enas.ENASRNNSpace`, with its ``enas_cells``. ``base``: shared by both.
"""
