"""The Hydra groups of ``lightning_nas``: one folder per group, one YAML per option."""
