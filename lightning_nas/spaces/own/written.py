"""Choices that a person asked for: those of :mod:`lightning_nas.choice` in a module, and the operations of rules."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from lightning_nas.choice import Layer, Repeat, Value
from lightning_nas.errors import InputError, shown
from lightning_nas.ops.counts import count_params
from lightning_nas.spaces.own.axes import Part
from lightning_nas.spaces.own.elastic import (
    Element,
    Kernel,
    Pick,
    Prefix,
    Width,
    conditions,
    convolved,
    groups_of,
    is_inside,
    kernel_is_fixed,
    owner,
)
from lightning_nas.spaces.own.reading import Reading
from lightning_nas.spaces.own.rules import KEEP, SKIP, Rule
from lightning_nas.spaces.own.supernet import _put
from lightning_nas.spaces.own.templates import Site, Template
from lightning_nas.spaces.own.varied import Setting, Varied

_MAKES = {"out_features": 0, "out_channels": 0, "embedding_dim": 1}
"""Attributes of torch's layers that say how many channels they make, and the axis of the weight."""
_FOLLOWS = {
    *("in_features", "in_channels", "num_features", "num_channels", "num_parameters", "normalized_shape"),
    *("groups", "embed_dim", "kdim", "vdim", "head_dim"),
}
"""Attributes of torch's layers that follow the channels they read."""


@dataclass(frozen=True)
class Place:
    """An attribute of a module that holds a value of a choice.

    Attributes:
        path: of the module.
        attribute: its name.
        value: of the choice.
        values: of the attribute, for each option.
    """

    path: str
    attribute: str
    value: Any
    values: tuple[Any, ...]


def has_choices(module: nn.Module) -> bool:
    """Whether a module holds anything of :mod:`lightning_nas.choice`."""
    return any(isinstance(m, (Layer, Repeat)) or any(True for _ in _held(m)) for m in module.modules())


def take_values(module: nn.Module) -> list[Place]:
    """Put plain numbers, the largest, where a module holds values, and return the places.

    Raises:
        InputError: an attribute holds values of several choices, or values with one label have different options.
    """
    places = []
    for path, child in module.named_modules():
        for attribute, held in list(_held(child)):
            values = list(_values(held))
            if len({id(value.choice) for value in values}) > 1:
                raise InputError(f"{path or 'the module'}.{attribute} holds values of several choices; legal: of one")
            told = tuple(_at(held, number) for number in range(len(values[0].options)))
            vars(child)[attribute] = told[-1]
            places.append(Place(path, attribute, values[0], told))
    options = dict[str, Place]()
    for place in places:
        label = place.value.label
        if label is not None and (first := options.setdefault(label, place)).value.options != place.value.options:
            raise InputError(
                f"choice {label!r} has the options {', '.join(first.value.options)} in {first.path or 'the module'} "
                f"and {', '.join(place.value.options)} in {place.path or 'the module'}; legal: the same"
            )
    return places


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Attributes with values in them."""
    for attribute, held in vars(module).items():
        if isinstance(held, (Value, tuple, list)) and any(True for _ in _values(held)):
            yield attribute, held


def _values(held: Any) -> Iterator[Any]:
    if isinstance(held, Value):
        yield held
    elif type(held) in (tuple, list):
        for entry in held:
            yield from _values(entry)


def _at(held: Any, number: int) -> Any:
    """What an attribute is under an option."""
    if isinstance(held, Value):
        return held.numbers[number]
    return type(held)(_at(entry, number) for entry in held) if type(held) in (tuple, list) else held


# -- decisions --------------------------------------------------------------------------------------------------


def written(module: nn.Module, reading: Reading, places: Sequence[Place]) -> tuple[list[Element], list[Setting]]:
    """The decisions of a module's choices, and those attributes that only make modules run otherwise.

    The second need :func:`~lightning_nas.spaces.own.varied.vary` and another reading; then they are decisions too.

    Args:
        module: after :func:`take_values`.
        reading: of the module.
        places: those of the values.

    Raises:
        InputError: a choice cannot be made, with the reason.
    """
    modules = dict(module.named_modules())
    names = _names(modules, places)
    elements: list[Element] = [*_picks(modules)]
    follow = list[Place]()
    wide = groups_of([name for name, _ in module.named_parameters()], reading)
    for place in places:
        child, name = modules[place.path], names[id(place.value.choice)]
        if isinstance(child, Repeat) and place.attribute == "depth":
            elements.append(Prefix(name, place.value.options, place.path, place.values))
        elif _is_torchs(child) and place.attribute in _MAKES:
            axes = reading.axes[f"{place.path}.weight".lstrip(".")]
            at = 1 if isinstance(child, nn.modules.conv._ConvTransposeNd) else _MAKES[place.attribute]
            elements.append(_width(name, place, axes[at] or (), wide))
        elif isinstance(child, nn.modules.conv._ConvNd) and place.attribute == "kernel_size":
            elements.append(_kernel(name, place, child, reading))
        elif _counts_heads(reading, place):
            elements.append(_width(name, place, reading.adjusted[place.path, place.attribute][0], wide))
        elif not _follows(child, place.attribute):
            follow.append(place)
    made = _without_doubles(elements)
    sized, loose = {element.name for element in made}, list[Setting]()
    for place in follow:
        name = names[id(place.value.choice)]
        setting = Setting(name, place.value.options, place.path, place.attribute, place.values)
        ready = name in sized or isinstance(modules[place.path], Varied)
        (made if ready else loose).append(setting)
    _check(module, [*made, *loose], places, names, reading)
    return made, loose


def _follows(module: nn.Module, attribute: str) -> bool:
    """Whether an attribute is one of torch's that follows the channels or the kernel of its layer."""
    if attribute == "padding":
        return isinstance(module, nn.modules.conv._ConvNd)
    return _is_torchs(module) and (attribute in _FOLLOWS or attribute[0] == "_")


def _is_torchs(module: nn.Module) -> bool:
    bases = [base for base in type(module).__mro__ if base is not nn.Module]
    return any(base.__module__.startswith("torch.nn.modules.") for base in bases)


def _names(modules: dict[str, nn.Module], places: Sequence[Place]) -> dict[int, str]:
    """Names of decisions by the identity of the choice: the label, or what the first layer calls it."""
    found = dict[int, str]()
    for attributes in ({**_MAKES, "kernel_size": 0, "depth": 0}, None):
        for place in places:
            if attributes is None or place.attribute in attributes:
                called = {"kernel_size": "kernel"}.get(place.attribute, place.attribute)
                called = "width" if place.attribute in _MAKES else called
                name = place.value.label or f"{place.path}.{called}".lstrip(".")
                found.setdefault(id(place.value.choice), name)
    return found


def _picks(modules: dict[str, nn.Module]) -> list[Pick]:
    layers = {path: layer for path, layer in modules.items() if isinstance(layer, Layer)}
    together = dict[str, list[str]]()
    for path, layer in layers.items():
        together.setdefault(layer.label or path or "layer", []).append(path)
    made = []
    for name, paths in together.items():
        first = layers[paths[0]]
        for path in paths[1:]:
            if set(layers[path]) != set(first):
                raise InputError(
                    f"choice {name!r} has the options {', '.join(first)} in {paths[0]} and {', '.join(layers[path])} "
                    f"in {path}; legal: the same"
                )
        sizes = {option: sum(count_params(layers[path][option]) for path in paths) for option in first}
        options = sorted(first, key=lambda option: (first.replaces and option == KEEP, sizes[option]))
        made += [Pick(name, tuple(options), path) for path in paths]
    return made


def _counts_heads(reading: Reading, place: Place) -> bool:
    """Whether an attribute is a number of heads of attention."""
    axis, each = reading.adjusted.get((place.path, place.attribute), ((), 1))
    return each == 1 and len(axis) == 1 and axis[0].channels.root.heads and axis[0].times == 1


def _width(name: str, place: Place, axis: tuple[Part, ...], wide: tuple[Any, Any, Any]) -> Width:
    makers, readers, members = wide
    what = f"choice {name}: the {place.values[-1]} of {place.path or 'the module'}.{place.attribute}"
    each, rest = sum(part.times for part in axis), {part.channels.root for part in axis}
    if len(rest) != 1:
        raise InputError(f"{what} cannot be searched: they are not alike")
    root = rest.pop()
    if root.fixed is not None or root not in readers:
        raise InputError(f"{what} cannot be searched: {root.fixed or 'no weight reads them'}")
    step = (each * root.quantum).numerator
    if off := [number for number in place.values if number % step or number < 1]:
        why = ", since heads of attention keep their size" if root.heads else ""
        raise InputError(f"{what} cannot be {off[0]}; legal: multiples of {step}{why}")
    together = tuple(dict.fromkeys((place.path, *map(owner, makers.get(root, ())), *members[root])))
    return Width(name, place.value.options, root, together, tuple(int(number / each) for number in place.values))


def _are_heads(axis: tuple[Part, ...]) -> bool:
    return bool(axis) and all(part.channels.root.heads for part in axis)


def _kernel(name: str, place: Place, layer: nn.Module, reading: Reading) -> Kernel:
    weight = f"{place.path}.weight".lstrip(".")
    what = f"choice {name}: the kernel of {place.path or 'the module'}"
    calls = [call for call in reading.whole if any(slot.name == weight for slot in call.slots)]
    if len(calls) != 1 or calls[0].name not in ("conv1d", "conv2d", "conv3d") or calls[0].module != place.path:
        raise InputError(f"{what} cannot be searched: only convolutions that run once have a choice of kernels")
    if any(len(set(sides)) > 1 for sides in place.values):
        raise InputError(f"{what} cannot be searched: its sides differ")
    sizes = tuple(sides[0] for sides in place.values)
    padding, dilation = convolved(calls[0])
    why = kernel_is_fixed(layer, calls[0].slots[1].shape[2:], padding, dilation, min(sizes))
    if why or any(size % 2 == 0 or size < 1 for size in sizes):
        raise InputError(f"{what} cannot be {' or '.join(map(str, sizes))}: {why or 'only odd sizes have a centre'}")
    whole = None if isinstance(padding, str) else tuple(padding)
    return Kernel(name, place.value.options, weight, place.path, sizes[-1], whole, dilation[0], sizes)


def _without_doubles(elements: Sequence[Element]) -> list[Element]:
    """One element for each group of channels; it cannot have two widths."""
    made, groups = list[Element](), dict[Any, Width]()
    for element in elements:
        if isinstance(element, Width) and element.channels in groups:
            first = groups[element.channels]
            if (first.name, first.widths) != (element.name, element.widths):
                raise InputError(
                    f"choices {first.name} and {element.name}: {first.members[0]} and {element.members[0]} have one "
                    "width, since the module adds or joins them; legal: one value or one label for both"
                )
            continue
        if isinstance(element, Width):
            groups[element.channels] = element
        made.append(element)
    return made


def _check(
    module: nn.Module, elements: Sequence[Element], places: Sequence[Place], names: dict[int, str], reading: Reading
) -> None:
    """Refuse values that no layer follows, labels of two kinds, and modules that occur under two conditions."""
    options = dict[str, tuple[str, ...]]()
    for element in elements:
        if set(options.setdefault(element.name, element.options)) != set(element.options):
            raise InputError(f"choice {element.name!r} has different options in {element.paths[0]}; legal: the same")
        if options[element.name] != element.options:
            raise InputError(f"choice {element.name!r} is the label of a Layer and of a Value; legal: of one of them")
    for place in places:
        if (name := names[id(place.value.choice)]) not in options:
            raise InputError(f"choice {name}: {place.path}.{place.attribute} follows it, but no layer has that number")
    wide = {element.channels: element.name for element in elements if isinstance(element, Width)}
    for place in places:
        read = {"in_features": 1, "in_channels": 1}.get(place.attribute)
        axes = reading.axes.get(f"{place.path}.weight".lstrip("."))
        if read is not None and axes is not None and axes[read] is not None:
            if _are_heads(axes[read] or ()):
                continue  # an attention makes them, whose heads keep their size
            made = {wide.get(part.channels.root) for part in axes[read] or ()}
            if (name := names[id(place.value.choice)]) not in made:
                raise InputError(
                    f"choice {name}: {place.path} reads {place.values[-1]} channels, but the layer that makes them has "
                    "another choice or none"
                )
    seen = dict[int, tuple[str, dict[str, tuple[str, ...]]]]()
    for path, child in module.named_modules(remove_duplicate=False):
        mine = conditions(elements, path)
        first, known = seen.setdefault(id(child), (path, mine))
        if known != mine and count_params(child):
            raise InputError(f"{first} and {path} are one module, but not under the same options; give each its own")


# -- operations of rules ----------------------------------------------------------------------------------------


def replaced_by_rules(module: nn.Module, rules: Sequence[Rule]) -> dict[str, Rule]:
    """The modules that rules give a choice of operations, by path, and the rule of each."""
    found = dict[str, Rule]()
    for path, child in module.named_modules():
        if not path or any(is_inside(path, other) for other in found):
            continue
        matching = [rule for rule in reversed(rules) if rule.matches(path, child)]
        rule = next((rule for rule in matching if rule.choices), None)
        if rule is not None and not any(other.frozen for other in matching):
            found[path] = rule
    return found


def place_choices(
    module: nn.Module, rules: Mapping[str, Rule], sites: Mapping[str, Site]
) -> dict[tuple[str, str], str]:
    """Replace modules by layers of the operations that rules name; the module is changed.

    Args:
        module: the module.
        rules: of :func:`replaced_by_rules`.
        sites: shapes at these modules.

    Returns:
        For each (path, option) that cannot be there, why.

    Raises:
        InputError: an option of the user's cannot be made.
    """
    misfits = dict[tuple[str, str], str]()
    for path, rule in rules.items():
        child, options = module.get_submodule(path), dict[str, nn.Module]()
        for name, make in rule.choices:
            try:
                options[name] = _option(make, child, sites.get(path), f"{path}: {name}")
            except ValueError as reason:
                misfits[path, name] = shown(str(reason), 160)[1:-1]
        if len(options) > 1:
            layer = Layer(options)
            layer.replaces = True
            _put(module, path, layer)
    return misfits


def check_fits(rules: Mapping[str, Rule], misfits: Mapping[tuple[str, str], str]) -> None:
    """Refuse an option of a rule that fits in none of its places.

    Raises:
        InputError: there is one, with the reason.
    """
    for rule in {id(rule): rule for rule in rules.values()}.values():
        paths = [path for path, own in rules.items() if own is rule]
        for name, _ in rule.choices:
            if all((path, name) in misfits for path in paths):
                why = misfits[paths[0], name]
                raise InputError(f"choices of {rule.match}: {name} fits nowhere; at {paths[0]}: {why}")


def drop_options(module: nn.Module, options: Iterable[tuple[str, str]]) -> None:
    """Drop options, by (path of the layer, name); a layer that only keeps its module becomes that again."""
    for path, option in options:
        layer = module.get_submodule(path)
        assert isinstance(layer, Layer)
        del layer[option]
        if list(layer) == [KEEP]:
            _put(module, path, layer[KEEP])


def _option(make: Any, replaced: nn.Module, site: Site | None, what: str) -> nn.Module:
    if make == KEEP:
        return replaced
    if make == SKIP:
        return nn.Identity()
    if isinstance(make, Template):
        if site is None:
            raise ValueError("cannot be sized: the module does not run, or takes or returns more than one tensor")
        return make.built(site)
    try:
        made = copy.deepcopy(make) if isinstance(make, nn.Module) else make(replaced)
    except Exception as reason:  # any code of the user's
        raise InputError(f"choices of {what} cannot be made: {shown(f'{type(reason).__name__}: {reason}')}") from reason
    if not isinstance(made, nn.Module):
        raise InputError(f"choices of {what} made a {type(made).__name__}; legal: a torch.nn.Module")
    return made
