"""Searches that train each architecture they ask about on its own: one paper, one file."""
