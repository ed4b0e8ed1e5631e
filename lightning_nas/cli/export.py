"""``lightning-nas export RUN [formats=[torch,onnx,py,safetensors]]``: the trained network in files of other kinds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_nas.cli.arguments import asks_for_help, listed, trusted
from lightning_nas.errors import ConfigError, shown
from lightning_nas.export.names import check_formats

_USAGE = """\
lightning-nas export RUN [formats=[torch,onnx,py,safetensors,executorch]] [out=FOLDER] [trusted_modules=[MINE]]

RUN is the folder of a run that was retrained. Each file is read back and compared with the network; without formats=
all are written but executorch, as far as their packages are installed and the network fits the format:
  torch        network.pt2, a program of torch.export, any batch size
  onnx         network.onnx, any batch size, run by ONNX Runtime
  py           network.py, readable, needs torch alone: build() and load()
  safetensors  model.safetensors with a model card, README.md
  executorch   network.pte for XNNPACK, where executorch is installed
Sizes, latencies and differences are in export.json. Without out= the files are in RUN/export.
trusted_modules= names modules of yours that built the network, as in the command of the run."""


def main(arguments: Sequence[str]) -> None:
    """Export the trained network of a run, and print a line for each file.

    Raises:
        InputError: there is no trained network, or no such format.
        NumericalError: a file computes something else than the network.
    """
    if asks_for_help(arguments):
        print(_USAGE)
        return
    given, modules = trusted(arguments)
    if not given:
        raise ConfigError("export takes the folder of a run, e.g. lightning-nas export RUN formats=[onnx,py]")
    folder, *others = given
    options = dict(text.partition("=")[::2] for text in others)
    if unknown := [text for text in others if not text.startswith(("formats=", "out="))]:
        raise ConfigError(f"{shown(unknown[0])}: export takes formats=[...], out=FOLDER and trusted_modules=[...]")
    if len(options) < len(others):
        raise ConfigError("export: an option is given twice")
    formats = listed("formats", options["formats"]) if "formats" in options else None
    if formats is not None:
        check_formats(formats)

    from lightning_nas.export.write import export_network, folder_of

    out = folder_of(folder, options.get("out"))
    print(lines(export_network(folder, formats, out, trusted_modules=modules), out))


def lines(content: dict[str, Any], folder: Path) -> str:
    """What ``export.json`` says, a line for each file, and why a format was skipped."""
    from lightning_nas.cli.listing import table

    rows = []
    for name, said in content["files"].items():
        words = [f"{said['bytes'] / 1e6:.2f} MB"]
        if "difference" in said:
            words.append(f"difference {said['difference']:.2g}")
        if "latency_ms" in said:
            words.append(f"{said['latency_ms']:.3f} ms")
        rows.append((str(folder / name), ", ".join(words)))
    skipped = [f"skipped: {reason}" for reason in content["skipped"].values()]
    return "\n".join([table(rows, None), *skipped])


if __name__ == "__main__":
    main(sys.argv[1:])
