"""A network that a function builds as a search space: what a configuration describes, and a saved file too."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from lightning_nas.errors import CheckpointError, InputError, shown
from lightning_nas.files import check_members, read_file
from lightning_nas.ops.states import mismatch
from lightning_nas.ranges import Width
from lightning_nas.spaces.builders import builders_like, is_builder, refuse_weights
from lightning_nas.spaces.own.attention import convert
from lightning_nas.spaces.own.networks import with_channels, with_classes
from lightning_nas.spaces.own.resizing import resize
from lightning_nas.spaces.own.space import FromModel
from lightning_nas.spaces.own.varied import vary
from lightning_nas.spaces.own.written import drop_options, place_choices, take_values
from lightning_nas.spaces.sides import ImageSize, pair, size_of
from lightning_nas.spaces.sizes import InputShape, sized_by_images

_LIMIT = 2**36  # bytes of a file of weights


class FromBuilder(FromModel):
    """A network that a function builds, as a search space for images or words; otherwise as :class:`FromModel`.

    The first convolution and the last layer are fitted to images with other channels, and to another number of classes.
    A language model is built for its vocabulary.
    Every supernet begins with fresh weights as the function draws them, or with those of a file. With a function of
    torchvision a saved network needs nothing else to be built again.

    Args:
        model: builds the network, e.g. ``functools.partial(torchvision.models.resnet18, norm_layer=...)``.
        rules: what becomes elastic, see :class:`FromModel`; None for everything that can.
        model_weights: file of the network's state_dict, from ``torch.save`` or safetensors, or the folder of a run that
            trained the network; None for fresh weights. Only tensors are read (``weights_only=True``).
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``.
        image_size: height and width of the images.
        in_channels: channels of the images.
        bptt: words of a window, for a language model: words (N, T) in, logits (N, T, num_classes) out. None for images.
        num_classes: width of the classifier, or words of the vocabulary.

    Raises:
        InputError: the function does not build a network that can be searched, or the weights are not its own.
        CheckpointError: the file of the weights cannot be read.

    Example:
        >>> import torchvision
        >>> space = FromBuilder(torchvision.models.squeezenet1_1, input_shape=(1, 32, 32), num_classes=10)
        >>> tuple(space.network(space.smallest)(torch.zeros(2, 1, 32, 32)).shape)
        (2, 10)
    """

    @sized_by_images(small={})
    def __init__(
        self,
        model: Callable[..., nn.Module],
        rules: Sequence[Mapping[str, Any]] | None = None,
        *,
        model_weights: str | None = None,
        name: str = "from_model",
        input_shape: InputShape | None = None,
        image_size: ImageSize | None = 224,
        in_channels: Width | None = 3,
        bptt: PositiveInt | None = None,
        num_classes: Width = 1000,
    ) -> None:
        del input_shape  # the decorator has set the sizes
        self._builder = model
        self._state = None if model_weights is None else read_weights(model_weights)
        self.pretrained = self._state is not None
        example = torch.zeros(1, bptt, dtype=torch.int64) if bptt else None
        shape = (1, bptt) if bptt else (1, in_channels or 3, *pair(size_of(image_size)))
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(0)  # of tensors that no module draws again, which networks begin with
            wanted, given = (num_classes, shape) if example is None else (None, example)
            super().__init__(self._raw(shape), given, rules, num_classes=wanted, name=name)
            if example is not None:
                self._check_words(num_classes)
            self._load(self._module)

    def _check_words(self, num_words: int) -> None:
        rows, made = self._inputs.rows.get(0, 0), self._reading.output
        if rows < num_words or made != (*self.input_shape, num_words):
            raise InputError(
                f"model: its embedding has {rows} rows and it makes logits {made} of {self.input_shape[0]} words; the "
                f"text has {num_words} different words, which is an argument of the network: give it as "
                "search_space.model.ARGUMENT='${dataset.num_classes}'"
            )

    def begun(self) -> nn.Module:
        """The network with weights drawn anew from torch's global generator, or with those of the file."""
        with torch.device("cpu"):
            network = self._raw((1, *self.input_shape))
            place_choices(network, self._replaced, self._sites)
            take_values(network)
            convert(network)
            resize(network, self._resolution)
            drop_options(network, self._dropped)
            vary(network, self._loose)
            if mismatch(network.state_dict(), self._module.state_dict()):
                network = with_classes(network, self._reading, self.num_classes)
            self._load(network)
        return network

    def _raw(self, shape: tuple[int, ...]) -> nn.Module:
        """The network for images of any channels, or for words, with its own classes."""
        network = _called(self._builder)
        self._is_loaded = self._state is not None and mismatch(self._state, network.state_dict()) is None
        if self._is_loaded:
            network.load_state_dict(self._state or {})
        return network if len(shape) == 2 else with_channels(network, shape)

    def _load(self, network: nn.Module) -> None:
        """Load the weights into a network in its final form, if they are not those of the whole one."""
        if self._state is None or self._is_loaded:
            return
        if found := mismatch(network.state_dict(), self._state):
            name, ours, theirs = found
            raise InputError(
                f"model_weights: {shown(name)} has the shape {theirs} in the file and {ours} in the network"
            )
        network.load_state_dict(self._state)


def twin(space: FromModel) -> FromBuilder | None:
    """The space of a function of torchvision that builds the module of a space; None if there is none.

    With the module's weights the function's network prints as the module does and computes the same, to the bit.

    Example:
        >>> import torchvision
        >>> space = FromModel(torchvision.models.squeezenet1_1(num_classes=10), (1, 3, 32, 32))
        >>> found = twin(space)
        >>> found.made_with["model"].__name__, found.decisions == space.decisions
        ('squeezenet1_1', True)
    """
    if not space._inputs.is_plain or len(space.input_shape) != 3:
        return None
    channels, *sides = space.input_shape
    sizes: dict[str, Any] = {"image_size": tuple(sides), "in_channels": channels, "num_classes": space.num_classes}
    x = torch.rand(2, *space.input_shape, generator=torch.Generator().manual_seed(0))
    for builder in builders_like(space.made_with["module"]):
        with suppress(InputError, RuntimeError):  # its weights have other shapes
            found = FromBuilder(builder, space.made_with.get("rules"), name=space.name, **sizes)
            networks = copy.deepcopy(found._module).eval(), copy.deepcopy(space._module).eval()
            networks[0].load_state_dict(networks[1].state_dict())
            with torch.no_grad():
                alike = torch.equal(*(network(x) for network in networks))
            if alike and repr(networks[0]) == repr(networks[1]) and found.decisions == space.decisions:
                return found
    return None


def _called(builder: Callable[..., nn.Module]) -> nn.Module:
    function, arguments = (builder.func, builder.keywords) if isinstance(builder, partial) else (builder, {})
    if isinstance(builder, nn.Module) or not callable(builder):
        raise InputError(f"model: got {shown(type(builder).__name__)}; legal: a function that builds a network")
    if is_builder(function):
        refuse_weights(arguments)
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        network = builder()
    except InputError:
        raise
    except Exception as reason:  # noqa: BLE001  any code may refuse its arguments
        said = shown(f"{type(reason).__name__}: {reason}")
        raise InputError(f"model: {name} refuses its arguments: {said}") from None
    if not isinstance(network, nn.Module):
        raise InputError(f"model: {name} builds a {type(network).__name__}; legal: a torch.nn.Module")
    return network


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a state_dict by name.

    Args:
        path: a file of ``torch.save`` or safetensors, the state_dict itself or with it under "state_dict"; or the
            folder of a run that was retrained.

    Raises:
        CheckpointError: the file is missing or damaged, or holds anything else than tensors and plain values.
    """
    file = Path(path).expanduser()
    file = file / "retrain" / "network.pt" if file.is_dir() else file
    found: Any
    content = read_file(file, error=CheckpointError, limit=_LIMIT)
    if content[:2] == b"PK":  # as torch has written since 1.6
        check_members(content, f"model_weights: refused {shown(file)}", error=CheckpointError)
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load

            found = load(content)
        else:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except ImportError:
        raise CheckpointError(f"{shown(file)}: safetensors is not installed: pip install safetensors") from None
    except Exception as reason:  # noqa: BLE001  torch raises whatever foreign content makes it raise
        raise CheckpointError(f"model_weights: refused {shown(file)}: {shown(str(reason), 160)}") from None
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"model_weights: {shown(file)} is no state_dict: names and tensors")
    return {str(name): value for name, value in found.items()}
