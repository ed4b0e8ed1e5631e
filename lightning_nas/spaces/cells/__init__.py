"""Stacked cells with two inputs: what the spaces of DARTS, ENAS and NASNet share.

``genotype``: operations and wiring of a cell. ``pairwise``: decisions of cells whose nodes take two states each.
``place``: where a cell stands in a stack. ``stacked``: the network, a cell of a genotype, and their picture.
"""
