"""Published architectures, by name.

An entry is a JSON file beside this one: the architecture, further arguments of its space's constructor, where it was
published, and where the authors' code differs from torch or from the space: ``norm`` (eps and momentum of batch norms)
and ``auxiliary_norm`` (the auxiliary classifier has a second batch norm).
"""

import difflib
import importlib.resources
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError, InvalidArchitecture, shown
from lightning_nas.files import read_json
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.chains.hardcore import HardCoReSpace
from lightning_nas.spaces.chains.mnasnet import MnasNetSpace
from lightning_nas.spaces.chains.mobile import MobileSpace
from lightning_nas.spaces.chains.proxyless import ProxylessNASSpace
from lightning_nas.spaces.chains.spos_shufflenet import ShuffleNetSpace
from lightning_nas.spaces.chains.tiny import TinySpace
from lightning_nas.spaces.darts.any_cell import DARTSCellSpace
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.description import network_of
from lightning_nas.spaces.dpc.space import DPCSpace
from lightning_nas.spaces.eas.space import EASSpace
from lightning_nas.spaces.elastic.attentive_nas import AttentiveNASSpace
from lightning_nas.spaces.enas.macro_retrained import ENASMacroNetworks
from lightning_nas.spaces.enas.micro_retrained import ENASMicroNetworks
from lightning_nas.spaces.nas_rl.rnn import NASRLRNNSpace
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.spaces.nasnet.any_cell import NASNetCellSpace
from lightning_nas.spaces.nasnet.pnas import PNASSpace
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace
from lightning_nas.spaces.transformers.autoformer import AutoFormerSpace

_SPACES: dict[str, Callable[..., SearchSpace]] = {
    "attentive_nas": AttentiveNASSpace,
    "autoformer_base": AutoFormerSpace,
    "autoformer_small": AutoFormerSpace,
    "autoformer_tiny": AutoFormerSpace,
    "darts": DARTSSpace,
    "darts_cell": DARTSCellSpace,
    "darts_rnn": DARTSRNNSpace,
    "eas": EASSpace,
    "dpc": DPCSpace,
    "dpc_small": DPCSpace,
    "enas_macro": ENASMacroNetworks,
    "enas_micro": ENASMicroNetworks,
    "fbnet": FBNetSpace,
    "hardcore": HardCoReSpace,
    "mnasnet": MnasNetSpace,
    "mobile": MobileSpace,
    "nas_rl_rnn": NASRLRNNSpace,
    "nasbench201": NASBench201Space,
    "nasnet_cell": NASNetCellSpace,
    "pnas": PNASSpace,
    "proxyless": ProxylessNASSpace,
    "spos_shufflenet": ShuffleNetSpace,
    "tiny": TinySpace,
}


def names() -> tuple[str, ...]:
    """List the names of all entries, sorted.

    >>> "fbnet_c" in names()
    True
    """
    files = importlib.resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json")))


def load(name: str) -> Architecture:
    """Load the published architecture called ``name``.

    Raises:
        InputError: the zoo has no such entry.

    >>> load("fbnet_c")["layer_01"]
    'k3_e1'
    """
    return Architecture.from_dict(_entry(name)["architecture"], where=name)


def network(name: str | Path, num_classes: int | None = None, auxiliary: bool = False) -> nn.Module:
    """Build a published or found network with fresh weights: images (N, C, H, W) in, logits (N, num_classes) out.

    Recurrent ones (``..._ptb``, ``..._wt2``, ``nascell``) take words (N, T) and give logits (N, T, num_classes).

    Batch norms have the authors' eps and momentum. The momentum of MnasNet's networks is 0.01 and that of the ImageNet
    networks of NASNet, AmoebaNet and PNASNet 0.0003: their running statistics need thousands of training steps, so
    raise it for a short training. Differs from the authors' code: networks that were published for TensorFlow have
    symmetric paddings.

    Args:
        name: one of :func:`names`, whose images have 3 channels; or the ``architecture.json`` of a run, which holds the
            sizes of its network.
        num_classes: width of the classifier, or words of the vocabulary; None for 10, or those of the run.
        auxiliary: add the auxiliary classifier that is used in training, for networks that have one.

    Raises:
        InputError: the zoo has no such entry, the file is no architecture with the sizes of its network, or the network
            has no auxiliary classifier, or ``num_classes`` is below 1.

    >>> import torch
    >>> tuple(network("darts_v2", num_classes=10).eval()(torch.zeros(1, 3, 32, 32)).shape)
    (1, 10)
    """
    if str(name) in names() or not Path(name).expanduser().is_file():
        built = space(str(name), 10 if num_classes is None else num_classes).network(
            load(str(name)), auxiliary=auxiliary
        )
        return _as_published(built, str(name))
    content, where = read_json(name, error=InvalidArchitecture, limit=2**20), shown(Path(name))
    architecture = Architecture.from_dict(content, where=where)
    return network_of(architecture, content.get("network"), num_classes, where=where, auxiliary=auxiliary)


def space(name: str, num_classes: int = 10) -> SearchSpace:
    """Build the space of the architecture called ``name``, in its published sizes.

    The space's own networks have torch's momentum of batch norm; :func:`network` has the published one.

    Args:
        name: one of :func:`names`.
        num_classes: width of the classifier, or words of the vocabulary.

    Raises:
        InputError: the zoo has no such entry.
    """
    return _SPACES[load(name).space](num_classes=num_classes, **_entry(name)["space"])


def _as_published(network: nn.Module, name: str) -> nn.Module:
    """Give a network what an entry says of its batch norms, beyond the arguments of the space."""
    entry = _entry(name)
    auxiliary = getattr(network, "auxiliary", None)
    if entry.get("auxiliary_norm") and isinstance(auxiliary, nn.Sequential):
        [place] = [i for i, module in enumerate(auxiliary) if isinstance(module, nn.Identity)]
        auxiliary[place] = nn.BatchNorm2d(768)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            for setting, value in entry.get("norm", {}).items():
                setattr(module, setting, value)
    return network


def _entry(name: str) -> Any:
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"the zoo has no {shown(name)}; {hint}it has: {', '.join(known)}")
    return json.loads(importlib.resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8"))
