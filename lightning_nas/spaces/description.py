"""A search space as plain JSON and back: the name of its class and every argument of its constructor.

A description is what a saved network needs to be built again. Only the classes of this library are named in it, and
every argument is checked against the constructor, so a file that comes from elsewhere can build nothing else.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError, InvalidArchitecture, shown
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.builders import builder_of, described, is_plain, with_plain_layers
from lightning_nas.spaces.sides import Sides, pair
from lightning_nas.spaces.sizes import classes_of

_MODULES = {
    "AttentiveNASSpace": "elastic.attentive_nas",
    "AutoFormerSpace": "transformers.autoformer",
    "BlockQNNSpace": "block_qnn.space",
    "DARTSCellSpace": "darts.any_cell",
    "DARTSRNNSpace": "recurrent.darts",
    "DARTSSpace": "darts.space",
    "EASSpace": "eas.space",
    "DPCSpace": "dpc.space",
    "ENASMacroNetworks": "enas.macro_retrained",
    "ENASMacroSpace": "enas.macro",
    "ENASMicroNetworks": "enas.micro_retrained",
    "ENASMicroSpace": "enas.micro",
    "ENASRNNSpace": "recurrent.enas",
    "FBNetSpace": "chains.fbnet",
    "FromBuilder": "own.built",
    "HardCoReSpace": "chains.hardcore",
    "MnasNetSpace": "chains.mnasnet",
    "MobileSpace": "chains.mobile",
    "NASBench201Space": "nasbench201.space",
    "NASNetCellSpace": "nasnet.any_cell",
    "NASNetSpace": "nasnet.space",
    "NASRLCNNSpace": "nas_rl.cnn",
    "NASRLRNNSpace": "nas_rl.rnn",
    "OFAMobileNetV3Space": "elastic.ofa_mbv3",
    "PNASSpace": "nasnet.pnas",
    "ProxylessNASSpace": "chains.proxyless",
    "ShuffleNetSpace": "chains.spos_shufflenet",
    "TinySpace": "chains.tiny",
}
_BUILDER = "model"  # the argument that is a function
_LARGEST = 2**20  # of any number in a description: no published network has a million channels or words


def describe(space: SearchSpace) -> dict[str, Any] | None:
    """Describe a space as plain values; None for one that is not of this library, or whose network is not.

    Example:
        >>> from lightning_nas.spaces.nasbench201.space import NASBench201Space
        >>> described = describe(NASBench201Space(input_shape=(1, 8, 8), num_classes=10))
        >>> described["class"], described["arguments"]["channels"], described["arguments"]["cells"]
        ('NASBench201Space', 8, [1, 1, 1])
        >>> rebuilt(described).digest == NASBench201Space(input_shape=(1, 8, 8), num_classes=10).digest
        True
    """
    space = space.as_written()
    name = type(space).__name__
    if name not in _MODULES or type(space) is not _class(name):
        return None
    bound = inspect.signature(type(space).__init__).bind_partial(None, **space.made_with)
    bound.apply_defaults()
    arguments = {key: _plain(value) for key, value in list(bound.arguments.items())[1:] if key != "input_shape"}
    if _BUILDER in arguments:  # its weights are in the file already
        rules = with_plain_layers(bound.arguments["rules"])
        arguments |= {_BUILDER: described(arguments[_BUILDER]), "model_weights": None, "rules": _plain(rules)}
        if arguments[_BUILDER] is None or not is_plain(arguments["rules"]):
            return None
    return {"class": name, "arguments": arguments}


def rebuilt(content: Any, *, where: str = "search space") -> SearchSpace:
    """Make the space of a description: the inverse of :func:`describe`.

    Args:
        content: parsed JSON.
        where: beginning of error messages, e.g. the path.

    Raises:
        InvalidArchitecture: not a description, a class that is not of this library, or arguments that its constructor
            does not take.
    """
    if not isinstance(content, dict) or content.keys() != {"class", "arguments"}:
        came = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise InvalidArchitecture(f"{where}: expected the keys class, arguments; got {shown(came)}")
    name, arguments = content["class"], content["arguments"]
    if not isinstance(name, str) or name not in _MODULES:
        raise InvalidArchitecture(f"{where}: class {shown(name)} is no search space of lightning_nas")
    if not isinstance(arguments, dict):
        raise InvalidArchitecture(f"{where}: 'arguments' must be an object, got {shown(arguments)}")
    made = _class(name)
    legal = set(inspect.signature(made.__init__).parameters) - {"self", "input_shape"}
    if unknown := sorted(set(arguments) - legal):
        raise InvalidArchitecture(f"{where}: {name} takes no {shown(unknown[0])}; legal: {', '.join(sorted(legal))}")
    hints = get_type_hints(made.__init__, include_extras=True)
    for key, value in arguments.items():
        _check(value, dict[str, Any] if key == _BUILDER else hints[key], f"{where}: {key}")
    try:
        if _BUILDER in arguments:
            arguments = {**arguments, _BUILDER: builder_of(arguments[_BUILDER]), "model_weights": None}
        return made(**arguments)
    except InputError as reason:
        raise InvalidArchitecture(f"{where}: {reason}") from None
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError) as reason:
        raise InvalidArchitecture(f"{where}: {name} cannot be built: {shown(str(reason))}") from None


def network_of(
    architecture: Architecture,
    content: Any,
    num_classes: int | None = None,
    *,
    where: str = "architecture",
    auxiliary: bool = False,
) -> nn.Module:
    """Build the network of an architecture in the sizes of its file, with fresh weights.

    Args:
        architecture: of the network.
        content: the entry "network" of the file: ``{"space": ..., "num_classes": ...}``.
        num_classes: width of the classifier; None for that of the file.
        where: beginning of error messages, e.g. the path.
        auxiliary: add the auxiliary classifier.

    Raises:
        InvalidArchitecture: there are no sizes in the file, or it is not an architecture of their space.
        ConfigError: ``num_classes`` is below 1.
    """
    if not isinstance(content, dict) or content.keys() != {"space", "num_classes"}:
        raise InvalidArchitecture(
            f"{where}: no sizes of the network are in this file (its space is {shown(architecture.space)}); build it "
            "with SPACE.network(ln.Architecture.load(FILE))"
        )
    classes = content["num_classes"]
    if type(classes) is not int or not 0 < classes <= _LARGEST:
        raise InvalidArchitecture(f"{where}: num_classes: got {shown(classes)}; legal: 1 to {_LARGEST}")
    space = rebuilt(content["space"], where=where)
    options = {"auxiliary": True} if auxiliary else {}
    return space.network(space.validate(architecture), num_classes=classes_of(num_classes, classes), **options)


def _class(name: str) -> type[SearchSpace]:
    found: type[SearchSpace] = getattr(import_module(f"lightning_nas.spaces.{_MODULES[name]}"), name)
    return found


def _plain(value: Any) -> Any:
    """Dicts, lists, texts, numbers and None, as JSON gives them back."""
    if isinstance(value, Sides):
        return list(pair(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value


def _check(value: Any, annotation: Any, where: str) -> None:
    pending = [value]
    while pending:
        entry = pending.pop()
        if isinstance(entry, (list, dict)):
            pending += entry if isinstance(entry, list) else entry.values()
        elif isinstance(entry, (int, float)) and abs(entry) > _LARGEST:
            raise InvalidArchitecture(f"{where}: got {shown(entry)}; legal: at most {_LARGEST}")
    try:
        TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
    except ValidationError as reason:
        said = ascii(reason.errors(include_url=False, include_context=False)[0]["msg"][:160])[1:-1]
        raise InvalidArchitecture(f"{where}: got {shown(value)}; {said[:1].lower()}{said[1:]}") from None
