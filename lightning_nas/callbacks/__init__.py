"""What a run records and checks while it searches."""
