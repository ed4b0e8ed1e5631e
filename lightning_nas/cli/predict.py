"""``lightning-nas predict RUN IMAGE ...``: the class of pictures, and its probability."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lightning_nas.cli.arguments import asks_for_help, trusted
from lightning_nas.errors import ConfigError

_USAGE = """\
lightning-nas predict RUN IMAGE [IMAGE ...] [trusted_modules=[MINE]]

RUN is the folder of a run that was retrained, or its file retrain/network.pt. Each picture is brought to the size, the
channels and the scale that the network was trained on; a line says its class and the probability. trusted_modules=
names modules of yours that built the network, as in the command of the run."""


def main(arguments: Sequence[str]) -> None:
    """Print the most probable class of each picture.

    Raises:
        InputError: there is no trained network, or no picture in a file.
    """
    if asks_for_help(arguments):
        print(_USAGE)
        return
    given, modules = trusted(arguments)
    if len(given) < 2:
        raise ConfigError("predict takes the folder of a run and image files, e.g. lightning-nas predict RUN image.png")
    folder, *files = given

    import torch

    from lightning_nas.cli.listing import table
    from lightning_nas.export.trained import Trained

    trained = Trained.load(folder, trusted_modules=modules)
    with torch.no_grad():
        shares = trained.network(trained.preprocessing.images(files)).softmax(1)
    names = trained.preprocessing.classes
    best = shares.max(1)
    rows = zip(files, best.values.tolist(), best.indices.tolist(), strict=True)
    print(table([(file, f"{names[number]}  {share:.2%}") for file, share, number in rows], None))


if __name__ == "__main__":
    main(sys.argv[1:])
