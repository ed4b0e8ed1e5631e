"""What a run does, in order: prepare, search, retrain, tell."""
