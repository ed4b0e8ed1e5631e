"""Search spaces: what can be built, one space a file."""
