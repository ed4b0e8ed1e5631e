"""Strategies that learn architecture parameters by gradient."""
