"""The trained network of a run as a value, and its file ``retrain/network.pt``."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.data.preprocessing import Preprocessing
from lightning_nas.errors import CheckpointError, InputError, shown
from lightning_nas.files import read_file, replace_file
from lightning_nas.ops.states import mismatch
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.builders import trusted_code
from lightning_nas.spaces.description import describe, network_of
from lightning_nas.training.checkpoint import load_checked, sealed

FILE = Path("retrain", "network.pt")
_FORMAT = 1
_KEYS = {"format", "architecture", "network", "preprocessing", "figures", "state_dict"}


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network with all that is needed to use it.

    Attributes:
        network: in eval mode, on the CPU; with averaged weights where those are what the report is about.
        architecture: of the network.
        sizes: of the network: the entry "network" of ``architecture.json``, None for a space of a person's own.
        preprocessing: what turns a picture into its input.
        figures: of the retraining, by the names of ``result.json``.
    """

    network: nn.Module
    architecture: Architecture
    sizes: dict[str, Any] | None
    preprocessing: Preprocessing
    figures: dict[str, float]

    def save(self, path: str | Path) -> None:
        """Write the file, atomically and with a checksum.

        Raises:
            EnvironmentFailure: the disk is full or the folder is not writable.
        """
        content = {
            "format": _FORMAT,
            "architecture": self.architecture.to_dict(),
            "network": self.sizes,
            "preprocessing": self.preprocessing.model_dump(mode="json"),
            "figures": self.figures,
            "state_dict": {name: value.detach().clone() for name, value in self.network.state_dict().items()},
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        replace_file(Path(path), *sealed(buffer.getbuffer()))

    @classmethod
    def load(
        cls, path: str | Path, space: SearchSpace | None = None, *, trusted_modules: Sequence[str] = ()
    ) -> Trained:
        """Read the trained network of a run.

        Args:
            path: folder of a run that was retrained, or its file ``retrain/network.pt``.
            space: of the network that was trained, where it is one of a person's own.
            trusted_modules: modules whose code the run's configuration may name, as in the command of the run.

        Raises:
            CheckpointError: there is no trained network, or the file is damaged or foreign; nothing in it is executed.
            InputError: the network is of code that is not trusted, or of an object.
            InvalidArchitecture: the sizes in the file are not those of a space.
        """
        file = _file(Path(path).expanduser())
        content, where = load_checked(file), shown(file)
        if not isinstance(content, dict) or content.keys() != _KEYS or content["format"] != _FORMAT:
            raise CheckpointError(f"{where} is no trained network of lightning_nas; legal: {FILE} of a run")
        architecture = Architecture.from_dict(content["architecture"], where=where)
        if isinstance(trusted_modules, str):
            raise InputError(f"trusted_modules: got {shown(trusted_modules)}; legal: a list such as ['mine']")
        if content["network"] is None and space is None and trusted_modules:
            space = _trusted_space(file, trusted_modules)
        with torch.random.fork_rng([]), torch.device("meta" if space is None else "cpu"):
            network = _network(architecture, content["network"], space, file)
        state = content["state_dict"]
        _check_state(state, network, where)
        network.load_state_dict(state, assign=True)
        figures = content["figures"]
        if not isinstance(figures, dict) or not all(type(value) in (int, float) for value in figures.values()):
            raise CheckpointError(f"{where}: its figures are no numbers: {shown(figures)}")
        return cls(
            network.eval(),
            architecture,
            content["network"],
            Preprocessing.of(content["preprocessing"], where=where),
            figures,
        )


def load(folder: str | Path, space: SearchSpace | None = None, *, trusted_modules: Sequence[str] = ()) -> nn.Module:
    """The trained network of a run, in eval mode.

    It is the network whose figures the report shows: retrained, with averaged weights where they were averaged, and
    without its auxiliary classifier. The file is checked by its checksum and read with ``weights_only=True``.

    Args:
        folder: of a run that was retrained, or its file ``retrain/network.pt``.
        space: of the network, where it is a search space of your own; see
            :meth:`~lightning_nas.spaces.base.SearchSpace.evaluation`.
        trusted_modules: modules with code of your own that built the network, as in the command of the run; they are
            imported, and no others.

    Raises:
        CheckpointError: there is no trained network, or the file is damaged or foreign.
        InputError: the network is of code that is not trusted, or of an object.
        InvalidArchitecture: the sizes in the file are not those of a space.

    Example:
        >>> load("outputs/nothing")
        Traceback (most recent call last):
        lightning_nas.errors.CheckpointError: there is no folder 'outputs/nothing'
    """
    return Trained.load(folder, space, trusted_modules=trusted_modules).network


def sizes_of(space: SearchSpace, num_classes: int) -> dict[str, Any] | None:
    """The entry "network" of ``architecture.json``; None for a space that is not of this library.

    Args:
        space: in the size of the network.
        num_classes: width of the classifier.
    """
    described = describe(space)
    return None if described is None else {"space": described, "num_classes": num_classes}


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"there is no folder {shown(path)}; legal: the folder of a run that was retrained")
    if not (path / FILE).is_file():
        searching = (path / "checkpoints").is_dir() and not (path / "architecture.json").is_file()
        if searching or (path / FILE.parent / "checkpoints").is_dir():
            raise CheckpointError(
                f"{shown(path)} has no trained network yet; go on with the command of the run and ckpt_path=last"
            )
        raise CheckpointError(
            f"{shown(path)} has no trained network ({FILE}); the stage retrain writes one, e.g. "
            f"stages=[retrain] architecture={shown(path / 'architecture.json')}"
        )
    return path / FILE


def _network(architecture: Architecture, sizes: Any, space: SearchSpace | None, file: Path) -> nn.Module:
    if sizes is not None and space is None:
        return network_of(architecture, sizes, where=shown(file))
    if space is None:
        raise InputError(f"{shown(file)}: {_needed(architecture, file)}")
    return space.network(space.validate(architecture))


def _needed(architecture: Architecture, file: Path) -> str:
    """Why no file builds the network, and the space to pass, as the configuration of the run tells it."""
    space = _space_entry(file)
    model = space.get("model")
    if isinstance(model, dict) and str(space.get("_target_")).endswith(".FromBuilder"):
        given = ", ".join(f"{key}={value!r}" for key, value in model.items() if not key.startswith("_"))
        target = str(model.get("_target_"))
        others = [(k, v) for k, v in space.items() if k[0] != "_" and k not in ("model", "model_weights", "name")]
        settings = "".join(f", {key}={value!r}" for key, value in others if value is not None)
        call = f"FromBuilder({f'functools.partial({target}, {given})' if given else target}{settings})"
        return (
            f"its network is built by {shown(target)}, code of your own, which no file may run; if you trust it: "
            f"ln.load(FOLDER, trusted_modules=[{target.partition('.')[0]!r}]), or pass the space of the "
            f"run: ln.load(FOLDER, space={shown(call, 600)[1:-1]}), with FromBuilder of lightning_nas.spaces.own.built"
        )
    if str(space.get("_object_")).endswith(".FromModel"):
        return (
            "its network was an object in Python, which no file can build; pass the space of the run: "
            "ln.load(FOLDER, space=ln.FromModel(MODULE, EXAMPLE, rules=RULES)), with what it was made of"
        )
    return (
        f"the search space {shown(architecture.space)} is not one of lightning_nas; pass yours: "
        "ln.load(FOLDER, space=MINE.evaluation())"
    )


def _space_entry(file: Path) -> dict[str, Any]:
    """The entry "search_space" of the run's configuration; empty if there is none."""
    try:
        config = yaml.safe_load(read_file(file.parents[1] / "config.yaml", error=CheckpointError, limit=2**20))
        return dict(config["search_space"])
    except (CheckpointError, yaml.YAMLError, IndexError, KeyError, TypeError, ValueError):
        return {}


def _trusted_space(file: Path, trusted: Sequence[str]) -> SearchSpace | None:
    """The space that the run's configuration describes, with code of trusted modules; None if it has no network."""
    space = _space_entry(file)
    if not isinstance(space.get("model"), dict) or not str(space.get("_target_")).endswith(".FromBuilder"):
        return None
    from lightning_nas.spaces.own.built import FromBuilder

    given = {key: value for key, value in space.items() if key[:1] != "_" and key != "model_weights"}
    try:
        given["model"] = trusted_code(given["model"], trusted)
        given["rules"] = trusted_code(given.get("rules"), trusted)
        return FromBuilder(**given)
    except (InputError, TypeError, ValueError) as reason:
        raise InputError(f"{shown(file.parents[1] / 'config.yaml')}: {reason}") from None


def _check_state(state: Any, network: nn.Module, where: str) -> None:
    """Compare names and shapes of the weights with those of the network."""
    wanted = network.state_dict()
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{where}: its weights are no tensors")
    if found := mismatch(wanted, state):
        name, ours, theirs = found
        raise CheckpointError(f"{where}: the weights {shown(name)} have the shape {theirs}, the network's {ours}")
