"""What builds networks and layers, by name: of torchvision and torch, which files may name too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_nas.errors import InputError, shown

if TYPE_CHECKING:
    from torch import nn

LIBRARY = "torchvision.models"
LAYERS = (
    *("Identity", "Linear", "Conv1d", "Conv2d", "Conv3d", "ChannelShuffle"),
    *(f"{kind}{rank}d" for kind in ("BatchNorm", "InstanceNorm") for rank in (1, 2, 3)),
    *("LayerNorm", "RMSNorm", "GroupNorm", "LocalResponseNorm"),
    *(f"{kind}Pool{rank}d" for kind in ("Avg", "Max", "AdaptiveAvg", "AdaptiveMax") for rank in (1, 2, 3)),
    *("ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Sigmoid", "Tanh"),
    *("Hardswish", "Hardsigmoid", "Hardtanh", "Softplus", "Softsign", "Dropout", "Dropout1d", "Dropout2d"),
    *("Dropout3d", "AlphaDropout", "FeatureAlphaDropout"),
)
"""Layers of ``torch.nn`` that take one tensor, and numbers and words as arguments."""
_WEIGHTS = ("weights", "weights_backbone", "pretrained", "pretrained_backbone")


@cache
def builders() -> Mapping[str, Any]:
    """What ``torchvision.models`` offers for classification, by name: functions, and the classes of networks."""
    from torch import nn
    from torchvision import models

    functions = {name: models.get_model_builder(name) for name in models.list_models(module=models)}
    classes = {n: made for n, made in vars(models).items() if isinstance(made, type) and issubclass(made, nn.Module)}
    return functions | classes


def is_builder(made: Any) -> bool:
    """Whether a function or class is one of :func:`builders`.

    >>> from torchvision import models
    >>> is_builder(models.resnet18), is_builder(models.VisionTransformer), is_builder(models.get_model)
    (True, True, False)
    """
    return any(made is known for known in builders().values())


def builders_like(network: nn.Module) -> Iterator[Any]:
    """The functions of torchvision that build networks with the parameters' names of one, without arguments.

    >>> from torchvision import models
    >>> [builder.__name__ for builder in builders_like(models.squeezenet1_1(num_classes=10))]
    ['squeezenet1_1']
    """
    from torch import device

    place, names = type(network).__module__, list(network.state_dict())
    for builder in builders().values() if place.startswith(f"{LIBRARY}.") else ():
        if builder.__module__ == place and not isinstance(builder, type):
            with device("meta"):
                found = list(builder().state_dict())
            if found == names:
                yield builder


def refuse_weights(arguments: Mapping[str, Any]) -> None:
    """Refuse the arguments with which torchvision downloads weights, and unpickles them.

    Raises:
        InputError: one of them is set.
    """
    for name in _WEIGHTS:
        if arguments.get(name) not in (None, False):
            raise InputError(
                f"model.{name}: got {shown(arguments[name])}; nothing is downloaded: save the state_dict to a file "
                "yourself, and give model_weights=FILE"
            )


def described(builder: Any) -> dict[str, Any] | None:
    """A builder as plain values; None for one that is not of torchvision, or has arguments that are objects.

    >>> from torchvision import models
    >>> described(partial(models.resnet18, num_classes=10))
    {'_target_': 'torchvision.models.resnet18', 'num_classes': 10}
    """
    function, arguments = builder, dict[str, Any]()
    if isinstance(builder, partial):
        function, arguments = builder.func, dict(builder.keywords)
        if builder.args:
            return None
    name = next((name for name, known in builders().items() if known is function), None)
    if name is None or not is_plain(arguments):
        return None
    return {"_target_": f"{LIBRARY}.{name}", **arguments}


def builder_of(content: Any) -> partial[nn.Module]:
    """The inverse of :func:`described`; only builders of torchvision are made.

    >>> builder_of({"_target_": "os.system", "command": "ls"})
    Traceback (most recent call last):
    lightning_nas.errors.InputError: model: 'os.system' is no network of torchvision.models
    """
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"model: got {shown(content)}; legal: _target_ and arguments")
    arguments = dict(content)
    target = arguments.pop("_target_", None)
    place, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    if place != LIBRARY or name not in builders():
        raise InputError(f"model: {shown(target)} is no network of {LIBRARY}")
    refuse_weights(arguments)
    return partial(builders()[name], **arguments)


def layer(told: Any) -> tuple[str, dict[str, Any]] | None:
    """A class of ``LAYERS``, or a partial of one, as its name and arguments; None for anything else.

    >>> from torch import nn
    >>> layer(partial(nn.Conv2d, kernel_size=5)), layer(nn.Transformer)
    (('Conv2d', {'kernel_size': 5}), None)
    """
    from torch import nn

    function, given = (told.func, told.keywords) if isinstance(told, partial) else (told, {})
    name = getattr(function, "__name__", "")
    is_layer = name in LAYERS and getattr(nn, name) is function and not getattr(told, "args", ())
    return (name, dict(given)) if is_layer else None


def with_plain_layers(rules: Any) -> Any:
    """Rules with the layers of torch in them as plain values, which files can hold.

    >>> from torch import nn
    >>> with_plain_layers([{"choices": ["keep", {"wide": partial(nn.Conv2d, kernel_size=5)}]}])
    [{'choices': ['keep', {'wide': {'_target_': 'torch.nn.Conv2d', 'kernel_size': 5}}]}]
    """
    if isinstance(rules, Mapping):
        return {key: with_plain_layers(value) for key, value in rules.items()}
    if isinstance(rules, (list, tuple)):
        return [with_plain_layers(value) for value in rules]
    found = layer(rules) if isinstance(rules, (partial, type)) else None
    return rules if found is None else {"_target_": f"torch.nn.{found[0]}", **found[1]}


def trusted_code(told: Any, trusted: Sequence[str], *, made: bool = False) -> Any:
    """Entries with ``_target_`` at any depth as functions with their arguments; layers of torch stay as they are.

    Arguments of a function that are entries themselves, such as a configuration, are what their function makes.

    A function must be named and defined in a trusted module, or be one of :func:`builders`; only then it is imported.

    Raises:
        InputError: a function is of another module, or does not exist.
    """
    if isinstance(told, list):
        return [trusted_code(entry, trusted, made=made) for entry in told]
    if not isinstance(told, dict):
        return told
    inner = made or "_target_" in told
    given = {k: trusted_code(v, trusted, made=inner) for k, v in told.items() if k not in ("_target_", "_partial_")}
    if "_target_" not in told:
        return given
    target = str(told["_target_"])
    place, _, name = target.rpartition(".")
    if place == "torch.nn" and name in LAYERS:
        return told
    if place == LIBRARY and name in builders():
        refuse_weights(given)
        return partial(builders()[name], **given)
    try:
        found = getattr(import_module(place), name) if under(target, trusted) else None
    except (ImportError, AttributeError, ValueError) as reason:
        raise InputError(f"{shown(target)} cannot be imported: {shown(str(reason))}") from None
    defined = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}"
    if not callable(found) or not (target in trusted or under(defined, trusted)):
        raise InputError(f"{shown(target)} is not trusted; legal: code of {', '.join(trusted)}, or trust it too")
    return found(**given) if made and told.get("_partial_") is not True else partial(found, **given)


def under(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a dotted name is one of the prefixes or lies below one.

    >>> under("mine.Net", ["mine"]), under("mine2.Net", ["mine"])
    (True, False)
    """
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def is_plain(value: Any) -> bool:
    """Whether a value is made of what JSON can write."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(entry) for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
