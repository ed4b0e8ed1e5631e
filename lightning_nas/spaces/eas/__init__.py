"""Plain networks that EAS grows by transformations.

``space``: :class:`~lightning_nas.spaces.eas.space.EASSpace`. ``plain``: its decisions and costs. ``networks``: layers
and network. ``inheriting`` and ``net2net``: the transformation of weights.
"""
