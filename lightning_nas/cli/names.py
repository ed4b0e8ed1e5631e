"""The names of chosen options and the folder of a run, with and without a Hydra application. Imports no torch."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from lightning_nas.cli.presets import files


def chosen(group: str, node: DictConfig) -> str:
    """The option of a group that a node is: by Hydra's own account, else by its class, else the class's name."""
    if HydraConfig.initialized() and (named := HydraConfig.get().runtime.choices.get(group)):
        return str(named)
    target = str(node.get("module", node)._target_)  # data of a person's own are in a wrapper
    return preset_of(group, target) or target


def preset_of(group: str, target: str) -> str | None:
    """The first option of a group of ``conf/`` whose class is ``target``, the shortest name first."""
    named = sorted(files(group).items(), key=lambda option: (len(option[0]), option[0]))
    return next((name for name, file in named if f"\n_target_: {target}\n" in f"\n{file.read_text()}"), None)


def default_folder() -> Path:
    """The folder of a run that Hydra gave none."""
    return Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S")


def with_folder(config: DictConfig) -> None:
    """Give a configuration a folder that was composed outside a Hydra application, where Hydra names none."""
    try:
        _ = config.paths.output
    except (OmegaConfBaseException, ValueError):
        with open_dict(config):
            config.paths.output = str(default_folder())


def own_data(config: DictConfig) -> None:
    """Wrap a LightningDataModule that is not of this library, so that a search gets its four parts in our order."""
    node = config.dataset
    if not str(node.get("_target_", "")).startswith("lightning_nas."):
        sizes = dict.fromkeys(("image_size", "channels", "num_classes", "search_classes"))
        wrapper = {"_target_": "lightning_nas.data.adapt.AdaptedData", "module": node, "seed": config.seed, **sizes}
        with open_dict(config):
            config.dataset = wrapper
