"""Chains of searched blocks, most of them inverted bottlenecks.

``fbnet``: :class:`~lightning_nas.spaces.chains.fbnet.FBNetSpace`. ``hardcore``:
:class:`~lightning_nas.spaces.chains.hardcore.HardCoReSpace` of HardCoRe-NAS. ``mnasnet``:
:class:`~lightning_nas.spaces.chains.mnasnet.MnasNetSpace` (layers in ``mnasnet_operations``). ``mobile``:
:class:`~lightning_nas.spaces.chains.mobile.MobileSpace` of MdeNAS. ``proxyless``:
:class:`~lightning_nas.spaces.chains.proxyless.ProxylessNASSpace` (blocks in ``proxyless_blocks``). ``spos_shufflenet``:
:class:`~lightning_nas.spaces.chains.spos_shufflenet.ShuffleNetSpace` (blocks in ``shuffle_operations``). ``tiny``:
:class:`~lightning_nas.spaces.chains.tiny.TinySpace`, all of whose networks were trained. Shared: ``space`` (base
class), ``networks``, ``shapes``.
"""
