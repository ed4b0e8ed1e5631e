"""Layers of torch named in rules, whose sizes are filled in from the place where they stand."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.errors import shown
from lightning_nas.spaces.builders import LAYERS, layer
from lightning_nas.spaces.own.inputs import Inputs, arguments
from lightning_nas.spaces.own.reading import BATCH, copied

_READS = ("in_channels", "in_features", "num_features", "num_channels", "normalized_shape")
_MAKES = ("out_channels", "out_features")
_LAST = ("Linear", "LayerNorm", "RMSNorm")  # their channels are the last axis, those of the others axis 1


@dataclass(frozen=True)
class Site:
    """Shapes at a module: what it is given and what it returns, each with the batch."""

    taken: tuple[int, ...]
    made: tuple[int, ...]


@dataclass(frozen=True)
class Template:
    """Layers of ``torch.nn`` in a row, each with the arguments that a rule gives.

    What is left out is filled in: the channels that are read, those of the module that is replaced for what is made,
    and a stride and a padding that give its height and width. The words ``in`` and ``out`` stand for the channels that
    the layer reads and for those that the replaced module makes, as in ``groups: in``.

    Attributes:
        layers: (name in ``torch.nn``, arguments) of each layer.

    Example:
        >>> template = Template.of({"_target_": "torch.nn.Conv2d", "kernel_size": 5, "groups": "in"})
        >>> template.built(Site((2, 8, 14, 14), (2, 16, 7, 7)))
        Conv2d(8, 16, kernel_size=(5, 5), stride=(2, 2), padding=(2, 2), groups=8)
    """

    layers: tuple[tuple[str, dict[str, Any]], ...]

    @classmethod
    def of(cls, told: Any) -> Template | None:
        """The template of a mapping with ``_target_``, a class of torch.nn, a partial of one, or a list of these.

        None for anything else.

        Raises:
            ValueError: a mapping names something else than a layer of torch.
        """
        if isinstance(told, (list, tuple)) and told:
            each = [cls.of(entry) for entry in told]
            whole = [template for template in each if template is not None]
            return cls(tuple(itertools.chain(*(one.layers for one in whole)))) if len(whole) == len(each) else None
        if isinstance(told, Mapping) and "_target_" in told:
            name = str(told["_target_"]).removeprefix("torch.nn.")
            if f"torch.nn.{name}" != told["_target_"] or name not in LAYERS:
                raise ValueError(f"{shown(told['_target_'])} is no layer; legal: torch.nn.{', torch.nn.'.join(LAYERS)}")
            return cls(((name, {key: value for key, value in told.items() if key not in ("_target_", "_partial_")}),))
        found = layer(told)
        return None if found is None else cls((found,))

    @property
    def name(self) -> str:
        """A word for the option: the layers, in lower case."""
        return "_".join(name.lower() for name, _ in self.layers)

    def built(self, site: Site) -> nn.Module:
        """The layers for a place.

        Raises:
            ValueError: the layers cannot be there, with the reason.
        """
        shape, told = site.taken, list[tuple[Any, dict[str, Any]]]()
        for name, given in self.layers:
            kind = getattr(nn, name)
            try:
                told.append((kind, _filled(name, given, shape, site.made)))
                with torch.device("meta"), torch.no_grad():
                    shape = tuple(kind(**told[-1][1]).eval()(torch.empty(shape)).shape)
            except Exception as reason:  # noqa: BLE001  torch raises whatever wrong sizes make it raise
                raise ValueError(f"{name}: {reason}") from None
        if shape != site.made:
            raise ValueError(f"gives the shape {shape[1:]}, keep gives {site.made[1:]}")
        made = [kind(**given) for kind, given in told]
        return made[0] if len(made) == 1 else nn.Sequential(*made)


def _filled(name: str, given: Mapping[str, Any], shape: Sequence[int], made: Sequence[int]) -> dict[str, Any]:
    """The arguments of a layer that is given a tensor of some shape, where one of another shape is wanted."""
    legal, axis = inspect.signature(getattr(nn, name)).parameters, -1 if name in _LAST else 1
    words = {"in": shape[axis], "out": made[axis]}
    told = {key: words.get(value, value) if isinstance(value, str) else value for key, value in given.items()}
    sizes = {**dict.fromkeys(_READS, shape[axis]), **dict.fromkeys(_MAKES, made[axis])}
    told.update({key: size for key, size in sizes.items() if key in legal and key not in told})
    free = [key for key in ("stride", "padding") if key in legal and told.get(key) is None]
    if "kernel_size" in told and free and not isinstance(told.get("padding"), str):
        rank = len(shape) - 2
        sides = [_sides(told.get(key, 1), rank) for key in ("kernel_size", "dilation")]
        known = [_sides(told.get(key), rank) for key in ("stride", "padding")]
        found = [_steps(*each) for each in zip(shape[2:], made[2:], *sides, *known, strict=True)]
        for place, key in enumerate(("stride", "padding")):
            if key in free:
                values = tuple(each[place] for each in found)
                told[key] = values[0] if len(set(values)) == 1 else values
    return told


def _steps(
    size: int, wanted: int, kernel: int, dilation: int, stride: int | None, padding: int | None
) -> tuple[int, int]:
    """Stride and padding along an axis: the stride nearest to the share, then the padding that keeps most places."""
    reach = dilation * (kernel - 1)
    paddings = [padding] if padding is not None else [reach // 2, *range(reach // 2)]
    near = {size // wanted or 1, -(-size // wanted)}
    strides = [stride] if stride is not None else sorted(near, key=lambda s: abs(s - size / wanted))
    for s, p in itertools.product(strides, paddings):
        if (size + 2 * p - reach - 1) // s + 1 == wanted:
            return s, p
    return strides[0], paddings[0]


def _sides(value: Any, rank: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank


def sites(module: nn.Module, inputs: Inputs, paths: Iterable[str]) -> dict[str, Site]:
    """Shapes at some modules, in the first of their calls; modules that do not run have none."""
    found, named = dict[str, Site](), list(paths)
    for device, batch in (("meta", BATCH), ("cpu", 2)) if named else ():
        ran = copied(module, torch.device(device)).eval()
        for path in named:
            ran.get_submodule(path).register_forward_hook(functools.partial(_note, found, path))
        args, kwargs = arguments(inputs.batch(batch, device))
        with suppress(Exception), torch.no_grad():  # code may need values; reading asks for what else it says
            ran(*args, **kwargs)
            break
    return found


def _note(found: dict[str, Site], path: str, module: nn.Module, args: tuple[Any, ...], made: Any) -> None:
    del module
    if args and isinstance(args[0], Tensor) and isinstance(made, Tensor):
        found.setdefault(path, Site(tuple(args[0].shape), tuple(made.shape)))
