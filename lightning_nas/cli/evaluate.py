"""``lightning-nas evaluate RUN [dataset=NAME ...]``: the test figures of a trained network, from its saved file."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nas.cli.arguments import asks_for_help, trusted
from lightning_nas.errors import ConfigError, DataError, shown

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lightning_nas.data.base import SearchData
    from lightning_nas.export.trained import Trained

_ANY_SPACE = "lightning_nas.spaces.nasbench201.space.NASBench201Space"
_USAGE = """\
lightning-nas evaluate RUN [dataset=NAME] [dataset.KEY=VALUE ...] [trusted_modules=[MINE]]

RUN is the folder of a run that was retrained. Without dataset= the network is tested on the run's own test part, and
the figure equals the reported one to the digit; with it on the test part of other data, normalised as in training.
trusted_modules= names modules of yours that built the network, as in the command of the run."""


def main(arguments: Sequence[str]) -> None:
    """Print the figure of the trained network on the test part of the data.

    Raises:
        InputError: there is no trained network, or the data do not fit it.
    """
    if asks_for_help(arguments):
        print(_USAGE)
        return
    given, modules = trusted(arguments)
    if not given:
        raise ConfigError("evaluate takes the folder of a run, e.g. lightning-nas evaluate RUN dataset=digits")
    folder, *overrides = given

    from lightning_nas.export.trained import Trained

    trained = Trained.load(folder, trusted_modules=modules)
    figure, part = evaluate(Path(folder), trained, overrides)
    print("\n".join(f"{name:<10}{value!r}" for name, value in {**figure, **part}.items()))


def evaluate(folder: Path, trained: Trained, overrides: Sequence[str]) -> tuple[dict[str, float], dict[str, Any]]:
    """Test a trained network.

    Args:
        folder: of the run.
        trained: the network.
        overrides: ``dataset=NAME`` and ``dataset.KEY=VALUE``; none for the run's own data.

    Returns:
        The figures by their names, and what the first is to be compared with: the reported one, and the samples of the
        part. Numbers are standardised as in training.

    Raises:
        InputError: the data cannot be made, or do not fit the network.
    """
    config = configured(folder, trained, overrides)

    from hydra.utils import instantiate

    from lightning_nas.data.given import as_search_data
    from lightning_nas.experiment.by_pixel import figures_of_masks
    from lightning_nas.experiment.by_target import figures_of_test
    from lightning_nas.experiment.process import process

    with process(config.threads):
        data = as_search_data(instantiate(config.dataset), config.seed)
        data.for_search = False
        task = instantiate(config.task)
        data.expect(task.targets)
        if trained.preprocessing.outputs == "numbers":
            data.scale = trained.preprocessing.scale
        data.prepare_data()
        data.setup("test")
        _check_fit(trained, data)
        name = f"test_{task.score_name}"
        if task.targets in ("numbers", "labels", "masks"):
            of_test = figures_of_masks if task.targets == "masks" else figures_of_test
            found = of_test(task, trained.network, data)
            figures = {key: value for key, value in found.items() if key.startswith("test_")}
        else:
            figures = {name: task.evaluate(trained.network, data.evaluation_loader("test"), data.num_classes)}
    return figures, {"reported": trained.figures.get(name), "samples": data.sizes["test"]}


def configured(folder: Path, trained: Trained, overrides: Sequence[str]) -> DictConfig:
    """A configuration with the run's task and seed, and the data to test on.

    Raises:
        ConfigError: the run has no configuration, or an override is none of the data.
    """
    from hydra.utils import get_class
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    from lightning_nas.cli.composed import compose_names
    from lightning_nas.cli.config.check import check

    if wrong := [text for text in overrides if "=" not in text or not text.startswith(("dataset=", "dataset."))]:
        raise ConfigError(f"{shown(wrong[0])}: evaluate takes dataset=NAME and dataset.KEY=VALUE")
    named = [text.partition("=")[2] for text in overrides if text.startswith("dataset=")]
    config = compose_names({"dataset": named[-1]} if named else {})
    file = folder / "config.yaml"
    try:
        run: Any = OmegaConf.load(file)
        changes = OmegaConf.from_dotlist([text for text in overrides if text.startswith("dataset.")])
        with open_dict(config):
            for key in ("seed", "threads", "trusted_modules", "task", *(() if named else ("dataset",))):
                config[key] = run[key]
            config.dataset = OmegaConf.merge(config.dataset, changes.get("dataset", {}))
            config.paths.output = str(folder)
            config.search_space = {"_target_": _ANY_SPACE}  # nothing is searched, and it must not depend on the data
        for key in ("dataset", "task"):
            if "_target_" not in config[key]:
                raise ConfigError(
                    f"{key}: the run had an object of your own; evaluate it in Python with ln.load(FOLDER)"
                )
    except OSError as reason:
        raise ConfigError(f"cannot read {shown(file)}: {reason.strerror}") from None
    except (OmegaConfBaseException, YAMLError, AttributeError, TypeError, KeyError) as reason:
        raise ConfigError(f"{shown(file)} is no configuration of a run: {shown(str(reason), 200)}") from None
    check(config)
    known = trained.preprocessing
    if known.mean is not None and "mean" in inspect.signature(get_class(config.dataset._target_)).parameters:
        with open_dict(config):
            config.dataset.mean, config.dataset.std = list(known.mean), list(known.std or ())
    return config


def _check_fit(trained: Trained, data: SearchData) -> None:
    """Compare inputs and classes of the data with those that the network was trained on.

    Raises:
        DataError: they differ.
    """
    known, there = trained.preprocessing, data.preprocessing()
    for what, ours, theirs in (
        ("inputs", known.input_shape, there.input_shape),
        ("classes", known.classes, there.classes),
    ):
        if ours != theirs and not (what == "inputs" and known.kind == "text"):
            raise DataError(f"the network was trained on the {what} {shown(ours)}, the data have {shown(theirs)}")


if __name__ == "__main__":
    main(sys.argv[1:])
