"""``lightning-nas predict RUN IMAGE ...``: the class of pictures and its probability, or their numbers or labels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_nas.cli.arguments import asks_for_help, trusted
from lightning_nas.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_nas.data.preprocessing import Preprocessing

_USAGE = """\
lightning-nas predict RUN IMAGE [IMAGE ...] [trusted_modules=[MINE]]

RUN is the folder of a run that was retrained, or its file retrain/network.pt. Each picture is brought to the size, the
channels and the scale that the network was trained on; a line says its class and the probability, the probability of
each label, the numbers in the unit of the targets, or the classes of its pixels with their shares. trusted_modules=
names modules of yours that built the network, as in the command of the run."""


def main(arguments: Sequence[str]) -> None:
    """Print the most probable class of each picture, or what else the network was trained for.

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
        output = trained.network(trained.preprocessing.images(files))
    print(table(list(zip(files, answers(trained.preprocessing, output), strict=True)), None))


def answers(known: Preprocessing, output: Tensor) -> list[str]:
    """What a network says of each picture, in words.

    Args:
        known: what its outputs are.
        output: (N, T), of the network.

    Returns:
        The most probable class with its probability; each label with its probability; each number in the unit of the
        targets, to six digits; or for masks each class that pixels have, with their share.

    Example:
        >>> import torch
        >>> from lightning_nas.data.preprocessing import Preprocessing
        >>> known = {"kind": "own", "input_shape": [1], "classes": ["cat", "dog"]}
        >>> answers(Preprocessing(**known), torch.tensor([[0.0, 9.0]]))
        ['dog  99.99%']
        >>> answers(Preprocessing(**known, outputs="labels"), torch.tensor([[0.0, 9.0]]))
        ['cat 50.00%  dog 99.99%']
        >>> numbers = {"outputs": "numbers", "target_mean": [4.0, 10.0], "target_std": [1.0, 2.0]}
        >>> answers(Preprocessing(**known, **numbers), torch.tensor([[0.5, -1.0]]))
        ['cat 4.5  dog 8']
        >>> answers(Preprocessing(**known, outputs="masks"), torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]]))
        ['cat 50.00%  dog 50.00%']
    """
    names = known.classes
    if known.outputs == "masks":
        said = [answer.flatten().bincount(minlength=len(names)) / answer.numel() for answer in output.argmax(1)]
        return ["  ".join(f"{names[k]} {share:.2%}" for k, share in enumerate(row.tolist()) if share) for row in said]
    if known.outputs in ("numbers", "labels"):
        rows, form = (known.numbers(output), ".6g") if known.outputs == "numbers" else (output.sigmoid(), ".2%")
        return [
            "  ".join(f"{name} {value:{form}}" for name, value in zip(names, row, strict=True)) for row in rows.tolist()
        ]
    best = output.softmax(1).max(1)
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return [f"{names[number]}  {share:.2%}" for share, number in pairs]


if __name__ == "__main__":
    main(sys.argv[1:])
