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
    """
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(config, resolve=True)
    for key, target in _targets(content["search_space"], "search_space"):
        resolve(target, key, content["trusted_modules"])

    import torch
    from hydra.utils import instantiate

    from lightning_nas.cli.latency_settings import Settings
    from lightning_nas.latency.additivity import additivity
    from lightning_nas.latency.measure import measure_space
    from lightning_nas.latency.schema import fit

    names = ("measure", "out", "samples", "seed")
    settings = fit(Settings, {name: content[name] for name in names}, where="configuration")
    space = instantiate(config.search_space)
    table = measure_space(space, settings.measure)
    out = settings.out or f"latency_{space.name}_{space.digest}.json"
    table.save(out)
    print(f"{len(table)} operations of {space.name} on {table.device}: {out}")
    print(f"use it with: latency_table=file latency_table.path={out}")
    if settings.samples:
        generator = torch.Generator().manual_seed(settings.seed)
        _show(additivity(space, table, settings.samples, generator))


def _targets(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """The full key and the value of every ``_target_`` at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        if name == "_target_":
            yield f"{key}._target_", item
        yield from _targets(item, f"{key}.{name}")


def _show(found: Additivity) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("sum of operations against measured networks", "value")
    table.add_row("random architectures", str(len(found.measured)))
    table.add_row("Kendall tau", f"{found.kendall_tau:.3f}")
    table.add_row("mean relative error", f"{found.mean_relative_error:.1%}")
    table.add_row("constant overhead", f"{found.overhead_ms:+.4f} ms")
    Console().print(table)
