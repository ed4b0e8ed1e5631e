"""Search strategies: how to choose, one paper a file."""
