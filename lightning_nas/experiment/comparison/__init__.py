"""Several strategies on equal terms: the same tasks, seeds and budget, and what may be said of the difference."""
