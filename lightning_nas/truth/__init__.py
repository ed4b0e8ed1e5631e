"""What a rank check is held against: stand-alone trainings, learning curves and published tables."""
