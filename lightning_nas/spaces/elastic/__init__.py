"""Elastic mobile networks, all of which are parts of one largest network.

``attentive_nas``: :class:`~lightning_nas.spaces.elastic.attentive_nas.AttentiveNASSpace`. ``ofa_mbv3``:
:class:`~lightning_nas.spaces.elastic.ofa_mbv3.OFAMobileNetV3Space` of Once-for-All. Shared: ``shapes`` (what is
searched, and the sizes that follow), ``layers`` (blocks alone and on slices of the largest), ``networks`` (the
stand-alone network and the supernet), ``space`` (base class).
"""
