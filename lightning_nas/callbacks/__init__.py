"""Callbacks that record and check a search."""
