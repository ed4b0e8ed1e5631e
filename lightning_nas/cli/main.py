"""The console command ``lightning-nas``: one line per sub-command, each a module that runs as ``python -m`` runs it.

Imports neither torch nor Hydra, so that the help text is printed at once.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

from lightning_nas import __version__
from lightning_nas.cli.config.spelling import hint
from lightning_nas.errors import NasError, shown

# the module that is run, and its line in the help text
COMMANDS = {
    "run": ("lightning_nas.run", "search, retrain, measure and report"),
    "compare": ("lightning_nas.cli.compare", "several strategies with equal seeds and budget: which differ"),
    "specialise": ("lightning_nas.cli.specialise", "networks for several targets from one supernet"),
    "predict": ("lightning_nas.cli.predict", "the class of pictures, by the trained network of a run"),
    "evaluate": ("lightning_nas.cli.evaluate", "the test figure of the trained network of a run"),
    "export": ("lightning_nas.cli.export", "a run's trained network as ONNX, torch.export, one Python file"),
    "latency": ("lightning_nas.latency", "measure the operations of a search space on this device"),
    "list": ("lightning_nas.cli.listing", "strategies, search spaces, data sets, published networks, ..."),
    "explain": (
        "lightning_nas.cli.explain",
        "options of a strategy, space, ...; decisions in your own network",
    ),
}

# conf/hydra/default.yaml begins with the same lines
FIRST_STEPS = """\
search with the default (FBNet on digits: a minute, no download):
  lightning-nas run
search on your own images (or a folder of folders: dataset=image_folder):
  lightning-nas run dataset=npz dataset.path=FILE.npz
list what there is to choose from:
  lightning-nas list strategies
explain one strategy, with its options:
  lightning-nas explain strategy=fbnet
resume a run that was stopped:
  lightning-nas run hydra.run.dir=FOLDER ckpt_path=last
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns the exit code of the process.

    Args:
        arguments: of the command line, without the program's name; by default those of this process.
    """
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(_help(), end="")
        return 0
    if name == "--version":
        print(f"lightning_nas {__version__}")
        return 0
    if name not in COMMANDS:
        return _refused(name)
    return _run(COMMANDS[name][0], rest)


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "".join(f"  {name:<{width}}  {line}\n" for name, (_, line) in COMMANDS.items())
    return (
        "lightning-nas: neural architecture search as a PyTorch Lightning plug-in\n\n"
        f"{FIRST_STEPS}\ncommands (lightning-nas COMMAND --help says more):\n{listed}"
    )


def _refused(name: str) -> int:
    if "=" in name or name.startswith("-"):
        advice = f"did you mean 'lightning-nas run {shown(name)[1:-1]}'?"
    else:
        advice = hint(name, COMMANDS)
    print(f"error: {shown(name)}: there is no such command; {advice}", file=sys.stderr)
    return 2


def _run(module: str, arguments: Sequence[str]) -> int:
    """Run a module as ``python -m`` does, so that processes which start it again find it by its name."""
    sys.argv = [module, *arguments]
    if not sys.flags.safe_path and os.getcwd() not in sys.path:  # noqa: PTH109 - a string, as Python puts it there
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except NasError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
