"""The weights that the answer's network inherits from a search: ``inherited.pt`` in the run's folder."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.errors import CheckpointError, ConfigError, InputError, shown
from lightning_nas.files import replace_file
from lightning_nas.ops.states import mismatch
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.differentiable.fair_darts import FairDARTS
from lightning_nas.training.checkpoint import load_checked, sealed
from lightning_nas.training.recalibrate import recalibrate

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run

FILE = "inherited.pt"
_BATCHES = 4  # to recalibrate batch norm on where nothing was searched


def check_inheritance(run: Run) -> None:
    """Refuse a retraining from inherited weights where the network that is trained inherits none.

    Raises:
        ConfigError: candidates are trained alone or looked up, there is no supernet, or the network that is retrained
            is another one than was searched.
    """
    if run.retraining.from_ == "inherited" and (reason := inherits_nothing(run)) is not None:
        raise ConfigError(f"retrain.from=inherited: {reason}; legal: scratch")


def inherits_nothing(run: Run) -> str | None:
    """Why the network of the answer has no weights of the search; None if it has."""
    reason, space = None, run.space
    if run.trains_nothing:
        reason = "results are looked up, so no network has weights"
    elif run.engine is not None:
        reason = "this strategy trains every candidate alone, so there are no shared weights"
    elif not isinstance(space, WeightSharingSpace):
        reason = f"{space.name} has no supernet, so there are no shared weights"
    elif space.evaluation() is not space:
        reason = f"{space.name} retrains a network of another size than was searched (search_space.evaluation)"
    elif run.data.num_classes != space.num_classes:
        reason = f"{space.num_classes} of {run.data.num_classes} classes are searched, so the classifier is another"
    elif run.retraining.auxiliary_weight:
        reason = (
            f"the auxiliary classifier of retrain.auxiliary_weight={run.retraining.auxiliary_weight} was not searched"
        )
    elif "search" not in run.stages and not (run.folder / FILE).is_file() and not space.pretrained:
        reason = f"there are no weights of a search in {shown(run.folder)} ({FILE})"
    return reason


def check_answer(run: Run, module: SearchModule) -> None:
    """Refuse a search whose answer is none of the networks that share weights.

    Raises:
        ConfigError: the answer keeps every option above a threshold.
    """
    several = isinstance(module, FairDARTS) and module.threshold is not None and module.target is None
    if run.retraining.from_ == "inherited" and several:
        raise ConfigError(
            "retrain.from=inherited: strategy.threshold keeps several options of a choice, a network that shares no "
            "weights; legal: strategy.threshold=null, or scratch"
        )


def write_inherited(run: Run, module: SearchModule, architecture: Architecture) -> None:
    """Write the weights of the answer with recalibrated batch norm, if the retraining begins with them."""
    if run.retraining.from_ != "inherited":
        return
    network = module.inherited(architecture)
    recalibrate(network, module.calibration())
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"architecture": architecture.to_dict(), "state_dict": state}, buffer)
    replace_file(run.folder / FILE, *sealed(buffer.getbuffer()))


def inherit(run: Run, architecture: Architecture, network: nn.Module) -> None:
    """Load what :func:`write_inherited` wrote into the network of the same architecture.

    Where nothing was searched, the network gets its part of the weights that the space begins with.

    Raises:
        InputError: the weights are of another architecture, or of another network.
        CheckpointError: the file is missing or damaged; nothing in it is executed.
    """
    file = run.folder / FILE
    if not file.is_file() and isinstance(run.space, WeightSharingSpace) and run.space.pretrained:
        begun = run.space.extract(run.space.supernet(), architecture)
        recalibrate(begun, run.data.calibration_batches(_BATCHES))
        network.load_state_dict(begun.state_dict())
        return
    content = load_checked(file, "cpu")
    if not isinstance(content, dict) or content.keys() != {"architecture", "state_dict"}:
        raise CheckpointError(f"{shown(file)} holds no inherited weights")
    if content["architecture"] != architecture.to_dict():
        raise InputError(f"retrain.from=inherited: {shown(file)} has the weights of another architecture")
    state = content["state_dict"]
    weights = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
    if not weights or mismatch(state, network.state_dict()):
        raise InputError(f"retrain.from=inherited: {shown(file)} has the weights of another network")
    network.load_state_dict(state)
