"""Tasks: loss, metrics and score of a network."""
