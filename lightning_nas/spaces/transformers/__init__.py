"""Transformers of elastic width, depth, heads and hidden units, whose weights are first entries of shared ones.

``autoformer``: :class:`~lightning_nas.spaces.transformers.autoformer.AutoFormerSpace` (layers and supernet in
``networks``, its sizes in ``presets``). Shared: ``slices``.
"""
