"""NAS-RL: convolutions with anchors, and recurrent cells that are trees."""
