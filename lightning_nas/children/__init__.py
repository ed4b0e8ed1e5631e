"""Training one stand-alone network."""
