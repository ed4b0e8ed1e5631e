"""Pictures of a run and its self-contained HTML page."""
