"""The command line: the only rooms that know Hydra and OmegaConf. A configuration comes in, a run goes out."""
