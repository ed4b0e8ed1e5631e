"""Operations of more than one family of spaces, and the ways in which a supernet mixes them.

Operations: ``blocks`` (convolutions and mobile blocks), ``cells`` (operations of stacked cells), ``recurrent``
(language models). Mixtures: ``mixed`` (the reference), ``fused`` and ``fused_cells`` (same numbers, faster, with
``norms`` and ``convolutions``), ``altered`` (changed by a method).
"""
