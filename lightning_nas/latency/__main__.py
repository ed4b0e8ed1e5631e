"""``python -m lightning_nas.latency search_space=NAME``, also ``lightning-nas latency``."""

from lightning_nas.cli.command import run_command
from lightning_nas.cli.latency import main

if __name__ == "__main__":
    run_command(main, "latency")
