"""Stand-alone networks of a module's supernet: the user's classes with narrower weights, under the user's names."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.choice import Layer, Repeat
from lightning_nas.errors import InputError
from lightning_nas.spaces.own.attention import HeadsAttention, restore
from lightning_nas.spaces.own.axes import Axis, Channels
from lightning_nas.spaces.own.elastic import Sizes, cut
from lightning_nas.spaces.own.reading import Reading, all_named
from lightning_nas.spaces.own.resizing import settle
from lightning_nas.spaces.own.supernet import Form, Leavable, _put
from lightning_nas.spaces.own.varied import unvary


class Passing(nn.Identity):
    """In the place of a block that is left out and is called with more than one argument: returns the first."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """Return the first argument."""
        del args, kwargs
        return x


def extracted(network: nn.Module, form: Form, sizes: Sizes) -> nn.Module:
    """A copy of a supernet's module, cut to some sizes.

    Args:
        network: the module of a supernet.
        form: its sizes.
        sizes: those of the new network; blocks that are left out become ``nn.Identity``.
    """
    network = copy.deepcopy(network)
    for path in form.leavable:
        block = network.get_submodule(path)
        assert isinstance(block, Leavable)
        _put(network, path, block.kept)
    return narrowed(network, form, sizes)


def narrowed(network: nn.Module, form: Form, sizes: Sizes) -> nn.Module:
    """Cut the tensors of a whole module, which is changed, and set the attributes that fit them."""
    for path in sizes.left_out:
        _put(network, path, Passing() if path in form.reading.further else nn.Identity())
    _choose(network, sizes)
    values = {}
    for name, tensor in all_named(network).items():
        if name in form.axes:
            values[name] = cut(tensor.detach(), form.axes[name], sizes, name).clone()
    _replace(network, values)
    for (path, attribute), value in form.attributes(sizes).items():
        if not sizes.lacks(path):
            setattr(network.get_submodule(path), attribute, value)
    for name, kernel in form.kernels.items():
        if not sizes.lacks(kernel.path):
            shown: Any = network.get_submodule(kernel.path)
            if hasattr(shown, "kernel_size"):
                shown.kernel_size = tuple(values[name].shape[2:])
    for module in network.modules():
        _describe(module)
    unvary(network)
    settle(network)
    restore(network)
    for path in reversed([path for path, module in network.named_modules() if isinstance(module, Layer)]):
        layer = network.get_submodule(path)
        if isinstance(layer, Layer) and layer.replaces:
            _put(network, path, layer[sizes.picked[path]])
    return network


def _choose(network: nn.Module, sizes: Sizes) -> None:
    """Drop the options and blocks that do not run."""
    for path, module in list(network.named_modules()):
        if isinstance(module, Layer) and path in sizes.picked and not sizes.lacks(path):
            for option in set(module) - {sizes.picked[path]}:
                del module[option]
        elif isinstance(module, Repeat) and path in sizes.depths and not sizes.lacks(path):
            del module[sizes.depths[path] :]
            module.depth, module.depths = sizes.depths[path], (sizes.depths[path],)


def fresh(network: nn.Module) -> nn.Module:
    """Give a network fresh weights on the default device, and return it.

    Modules with ``reset_parameters``, and torch's attention, draw theirs from torch's global generator; all other
    tensors keep their values.
    """
    moved = {}
    for name, tensor in all_named(network).items():
        moved[name] = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
    _replace(network, moved)
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            HeadsAttention.reset_parameters(module)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    return network


def with_classes(network: nn.Module, reading: Reading, classes: int) -> nn.Module:
    """Give the layer that makes the output another width and fresh weights, and return the network, which is changed.

    Raises:
        InputError: the output is not made by one layer.
    """
    axis = reading.output_axes[reading.class_axis]
    root = axis[0].channels.root if axis is not None and len(axis) == 1 else Channels(0)
    named = all_named(network)
    heads = {n: axes for n, axes in reading.axes.items() if n in named and any(_has(axis, root) for axis in axes)}
    modules = {n.rpartition(".")[0] for n in heads}
    resets = [getattr(network.get_submodule(path), "reset_parameters", None) for path in modules]
    if len(modules) != 1 or axis is None or axis[0].times != 1 or not callable(resets[0]):
        raise InputError(
            f"the module's output has {(axis and axis[0].length) or 'fixed'} classes and is not made by one layer; "
            f"give a module with {classes} classes"
        )
    values = {}
    for name, axes in heads.items():
        shape = [classes if _has(a, root) else size for size, a in zip(named[name].shape, axes, strict=True)]
        values[name] = torch.empty(shape, dtype=named[name].dtype)
    _replace(network, values)
    resets[0]()
    _describe(network.get_submodule(next(iter(modules))))
    return network


def with_channels(network: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Give the first convolution the channels of the images, and return the network, which is changed.

    One channel gets the sum of the weights: a grey image then gives what it gave as an image of equal channels. More
    channels get fresh weights.

    Args:
        network: takes images (N, C, H, W).
        shape: (1, C, H, W) of the images.
    """
    first = _first_convolution(network, shape)
    if first is None or first.in_channels == shape[1]:
        return network
    weight = first.weight.detach()
    if shape[1] == 1:
        first.weight = nn.Parameter(weight.sum(1, keepdim=True))
    else:
        first.weight = nn.Parameter(weight.new_empty(len(weight), shape[1], *weight.shape[2:]))
        first.reset_parameters()
    _describe(first)
    return network


def _first_convolution(network: nn.Module, shape: tuple[int, ...]) -> nn.Conv2d | None:
    """The convolution without groups that reads the images; None if another layer does."""

    class Found(Exception):
        pass

    reached = list[nn.Module]()

    def note(module: nn.Module, args: Any) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)) and isinstance(args[0], Tensor):
            reached.append(module)
            raise Found

    hooks = [module.register_forward_pre_hook(note) for module in network.modules()]
    with suppress(Exception), torch.no_grad():  # what the network says of the images is asked for later
        network(torch.zeros(shape))
    for hook in hooks:
        hook.remove()
    first = reached[0] if reached else None
    return first if isinstance(first, nn.Conv2d) and first.groups == 1 else None


def _has(axis: Axis, root: Channels) -> bool:
    return any(part.channels.root is root for part in axis or ())


def _replace(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Set parameters and buffers by name, wherever a tied one occurs."""
    new = {id(tensor): values[name] for name, tensor in all_named(network).items() if name in values}
    made: dict[int, Any] = {}
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in new:
                made.setdefault(id(parameter), nn.Parameter(new[id(parameter)], parameter.requires_grad))
                setattr(module, name, made[id(parameter)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            if id(buffer) in new:
                setattr(module, name, new[id(buffer)])


def _describe(module: nn.Module) -> None:
    """Make the numbers that torch's layers show, and that other code may read, those of their weights."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.conv._ConvTransposeNd):
        module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups
    elif isinstance(module, nn.modules.conv._ConvNd):
        module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        module.num_features = len(weight)
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = len(weight)
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = weight.shape
    elif type(module).__name__ == "Conv1D" and hasattr(module, "nx"):  # Hugging Face's, a turned linear layer
        vars(module).update(nx=weight.shape[0], nf=weight.shape[1])
