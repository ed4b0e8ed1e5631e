"""Convolutional and recurrent spaces of NAS-RL (Zoph & Le).

``cnn``: :class:`~lightning_nas.spaces.nas_rl.cnn.NASRLCNNSpace`, with its ``networks``. ``rnn``:
:class:`~lightning_nas.spaces.nas_rl.rnn.NASRLRNNSpace`, with its ``tree_cells``.
"""
