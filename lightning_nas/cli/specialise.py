"""``lightning-nas specialise RUN targets=[...]``: networks for several devices from the supernet of one search."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nas.cli.arguments import asks_for_help, listed, trusted
from lightning_nas.errors import ConfigError, shown
from lightning_nas.export.names import check_formats

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lightning_nas.experiment.specialise import Network

_KEYS = {"targets": "table", "targets_ms": "ms", "targets_macs": "macs", "targets_params": "params"}
_USAGE = """\
lightning-nas specialise RUN targets=[2.5,5,10] [latency_table=FILE] [formats=[onnx,py]] [out=FOLDER]
                         [trusted_modules=[MINE]]

RUN is the folder of a finished search with shared weights. For each target the search answers once more, with the most
promising network that keeps it; nothing is trained again. Each network is tested, measured and exported with the
weights of the supernet, into RUN/specialised or FOLDER, beside a table and a page that compare them with uniform
networks of the same supernet.
  targets          costs in the unit of the latency table of the search, or of latency_table=
  targets_ms       milliseconds by that table
  targets_macs     multiply-adds
  targets_params   parameters
latency_table= is a table of another device, measured there by lightning-nas latency; formats= as in lightning-nas
export; trusted_modules= names modules of yours that built the network, as in the command of the run."""


def main(arguments: Sequence[str]) -> None:
    """Print a line for each network.

    Raises:
        ConfigError: no finished search, no target, or one that no network keeps.
    """
    if asks_for_help(arguments):
        print(_USAGE)
        return
    given, modules = trusted(arguments)
    if not given or "=" in given[0]:
        raise ConfigError("specialise takes the folder of a run, e.g. lightning-nas specialise RUN targets=[2.5,5]")
    folder, options = Path(given[0]), dict[str, str]()
    for text in given[1:]:
        name, equals, value = text.partition("=")
        if not equals or name not in (*_KEYS, "latency_table", "formats", "out"):
            legal = ", ".join([*_KEYS, "latency_table", "formats", "out", "trusted_modules"])
            raise ConfigError(f"{shown(text)}: specialise takes {legal}")
        if name in options:
            raise ConfigError(f"specialise: {name} is given twice")
        options[name] = value
    targets = wanted(options)
    formats = listed("formats", options["formats"]) if "formats" in options else None
    if formats is not None:
        check_formats(formats)
    print(lines(specialised(folder, targets, options, formats, modules)))


def wanted(options: dict[str, str]) -> dict[str, list[float]]:
    """Costs of each kind.

    Raises:
        ConfigError: there is none, or one is no positive number.

    Example:
        >>> wanted({"targets": "[2.5,5]", "targets_macs": "[1e6]"})
        {'table': [2.5, 5.0], 'macs': [1000000.0]}
    """
    found = dict[str, list[float]]()
    for key, kind in _KEYS.items():
        for text in listed(key, options[key]) if key in options else ():
            try:
                cost = float(text)
            except ValueError:
                cost = 0.0
            if not 0 < cost < float("inf"):
                raise ConfigError(f"{key}: got {shown(text)}; legal: positive numbers, {key}=[2.5,5]")
            if cost in found.setdefault(kind, []):
                raise ConfigError(f"{key}: {text} is given twice")
            found[kind].append(cost)
    if not found:
        raise ConfigError(f"specialise takes targets, e.g. targets=[2.5,5]; legal: {', '.join(_KEYS)}")
    return found


def specialised(
    folder: Path,
    targets: dict[str, list[float]],
    options: dict[str, str],
    formats: Sequence[str] | None,
    modules: Sequence[str],
) -> list[Network]:
    """Build the run of the search again, and answer it for each target."""
    out = Path(options.get("out", folder / "specialised"))
    config = configured(folder, out, modules)

    from lightning_nas.cli.build import build
    from lightning_nas.experiment.process import signals
    from lightning_nas.experiment.specialise import specialise
    from lightning_nas.experiment.work import at_work
    from lightning_nas.latency.table import LatencyTable

    table = LatencyTable.load(Path(options["latency_table"])) if "latency_table" in options else None
    with signals(leaves=True), at_work(out, config.seed, config.threads, leaves=True):
        return specialise(build(config), folder, out, targets, table=table, formats=formats)


def configured(folder: Path, out: Path, modules: Sequence[str]) -> DictConfig:
    """The configuration of a search, which its run can be built from again.

    Raises:
        ConfigError: there is none, or it is not of a search.
    """
    from omegaconf import DictConfig, OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    from lightning_nas.cli.config.check import check

    file = folder / "config.yaml"
    try:
        config: Any = OmegaConf.load(file)
    except OSError as reason:
        raise ConfigError(f"cannot read {shown(file)}: {reason.strerror}") from None
    except (OmegaConfBaseException, YAMLError) as reason:
        raise ConfigError(f"{shown(file)} is no configuration of a run: {shown(str(reason), 200)}") from None
    if not isinstance(config, DictConfig) or "search" not in (config.get("stages") or ()):
        raise ConfigError(f"{shown(file)} is no configuration of a search")
    with open_dict(config):
        config.trusted_modules = list(modules)
        config.stages = ["search"]
        config.ckpt_path, config.paths.output = None, str(out)
        for key in ("target", "target_ms", "target_macs", "target_params"):
            config[key] = None
    check(config)
    return config


def lines(networks: Sequence[Network]) -> str:
    """A line for each network, the specialised ones with their folders."""
    from lightning_nas.cli.listing import table

    rows = []
    for network in networks:
        measured = "" if network.measured_ms is None else f", {network.measured_ms:.3f} ms measured"
        said = f"test {network.figure:.4f}, cost {network.cost:,.6g}{measured}, {network.params:,} parameters"
        rows.append((network.folder or f"uniform, {network.name}", said))
    return table(rows, None)


if __name__ == "__main__":
    main(sys.argv[1:])
