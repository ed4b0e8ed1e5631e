"""Search spaces: what can be built, a room for each family."""
