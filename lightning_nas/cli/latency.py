"""The latency command: measure the operations of a space, write a JSON file, check how well it predicts networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lightning_nas.cli.config.targets import resolve

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lightning_nas.latency.additivity import Additivity


def main(config: DictConfig) -> None:
    """Measure a search space, write its latency table, and compare the table's sums with whole networks.

    Args:
        config: ``search_space``, the conditions ``measure``, the file ``out``, and ``samples``, the number of networks.
            ``dataset`` is read if it leaves a size of the space to the data, with the targets of ``task``; with classes
            where there is no task.
    """
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(config, resolve=True)
    for part in ("search_space", "dataset", "task"):
        for key, target in _targets(content.get(part), part):
            resolve(target, key, content["trusted_modules"])

    import torch
    from hydra.utils import instantiate

    from lightning_nas.cli.build import fill_sizes, read_data
    from lightning_nas.cli.latency_settings import Settings
    from lightning_nas.latency.additivity import additivity
    from lightning_nas.latency.measure import measure_space
    from lightning_nas.latency.schema import fit

    names = ("measure", "out", "samples", "seed")
    settings = fit(Settings, {name: content[name] for name in names}, where="configuration")
    if _left_to_the_data(config.search_space, content["search_space"]):
        fill_sizes(config, read_data(config, for_search=False))
    space = instantiate(config.search_space)
    table = measure_space(space, settings.measure)
    out = settings.out or f"latency_{space.name}_{space.digest}.json"
    table.save(out)
    print(f"{len(table)} operations of {space.name} on {settings.measure.on(table.device)}: {out}")
    told = "" if settings.measure.command is None else " latency_table.command=..., the command of this table"
    print(f"use it with: latency_table=file latency_table.path={out}{told}")
    found = None
    if settings.samples:
        generator = torch.Generator().manual_seed(settings.seed)
        found = additivity(space, table, settings.samples, generator, conditions=settings.measure)
        _show(found)
    for said in (table.regression, table.steadiness):
        if said is not None:
            print(said)
    if found is not None and not found.steadiness.steady:
        print(f"while the networks were measured: {found.steadiness}")


def _targets(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """The full key and the value of every ``_target_`` at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        if name == "_target_":
            yield f"{key}._target_", item
        yield from _targets(item, f"{key}.{name}")


def _left_to_the_data(node: DictConfig, resolved: dict[str, Any]) -> bool:
    """Whether the space has a size that the data set does not state, so that the data must be read."""
    from omegaconf import OmegaConf

    written: Any = OmegaConf.to_container(node)
    return any("${dataset." in str(value) and resolved[name] is None for name, value in written.items())


def _show(found: Additivity) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("predictions against measured networks", "value")
    table.add_row("random architectures", str(len(found.measured)))
    table.add_row("Kendall tau", f"{found.kendall_tau:.3f}")
    table.add_row("mean relative error", f"{found.mean_relative_error:.1%}")
    table.add_row("factor in the predictions", f"{found.factor:.3f}")
    table.add_row("constant in the predictions", f"{found.constant_ms:.4f} ms")
    table.add_row("the sums without them", f"{found.sum_error:+.1%}")
    Console(markup=False, emoji=False).print(table)
