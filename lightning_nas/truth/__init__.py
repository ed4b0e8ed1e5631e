"""References of a rank check: stand-alone training, learning curves and published tables."""
