"""Macro and micro spaces of ENAS for images.

``macro``: :class:`~lightning_nas.spaces.enas.macro.ENASMacroSpace`, retrained as
:class:`~lightning_nas.spaces.enas.macro_retrained.ENASMacroNetworks` (``macro_retrained``); networks in
``macro_networks``. ``micro``: :class:`~lightning_nas.spaces.enas.micro.ENASMicroSpace`, retrained as
:class:`~lightning_nas.spaces.enas.micro_retrained.ENASMicroNetworks` (``micro_retrained``); sizes in ``micro_form``,
cells in ``micro_networks``, supernet in ``micro_supernet``. ``operations``: the operations of both. The recurrent
space of ENAS is in :mod:`lightning_nas.spaces.recurrent`.
"""
