"""Checking the composed configuration before anything is built from it."""
