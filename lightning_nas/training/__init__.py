"""Resumable training: order, noise, checkpoints and signals, whatever is trained."""
