"""Runs: search, retrain, rank and report in one folder, resumable to the bit. Read run.py first."""
