"""A person's own module as a search space: :class:`~lightning_nas.spaces.own.space.FromModel`.

``inputs`` are what the module is given; ``reading`` runs it once without values and notes every function of torch,
whose arguments ``nested`` walks; ``following`` has one rule a function for how channels go through it; ``axes`` joins
the channels that must have one width. ``rules`` are what a person wants to be searched, ``templates`` the layers that
they name, ``written`` the choices in the module's own code, ``elastic`` the decisions that come of them and the slice
of every tensor, ``trying`` keeps whole what the module's code does not allow, with ``shapes`` in the place of slow
functions. ``supernet`` runs the module on slices, ``networks`` cuts stand-alone networks, ``costs`` lists the
functions for a latency table; ``attention``, ``varied`` and ``resizing`` let modules run with fewer heads, with other
attributes and on smaller images, and ``resolution`` finds the sizes of these; ``explanation`` is what :meth:`explain`
returns, ``space`` the search space, and ``built`` that of a network which a function builds, as configurations name it:
:class:`~lightning_nas.spaces.own.built.FromBuilder`.
"""
