"""Candidate operations, and how a supernet mixes them."""
