"""Search spaces: what can be built.

Contracts: ``base`` (:class:`~lightning_nas.spaces.base.SearchSpace`,
:class:`~lightning_nas.spaces.base.WeightSharingSpace`), ``gates``, ``growing``, ``inheriting``. Shared by several
families: ``sizes`` (constructors from ``input_shape``), ``meanings``, ``chain``, ``connections``, ``cell_graphs``,
``language_models`` and the room ``cells``. Every other room is one family; its first page says which file holds which
space. A family imports from its own room, from ``cells`` and from the files named here, never from another family.
"""
