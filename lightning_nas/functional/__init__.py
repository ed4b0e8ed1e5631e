"""Pure tensor mathematics, without state and without modules.

``relaxation``: gates from logits. ``hypergradient``: gradients through a step of the weights. ``curvature``: sharpness
of a loss. ``penalties``: task and cost in one loss or reward. ``reinforce``: policy gradients. ``multinomial``: updates
of MdeNAS. ``loose_ends``: states that no node takes. ``projection``: the most probable architecture within limits of
additive costs. ``ranking``: rank correlations and their intervals.
"""
