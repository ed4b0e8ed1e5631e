"""Searches that train one sampled path at a time."""
