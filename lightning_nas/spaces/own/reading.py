"""Read the graph of a module: run it once without values and follow the channels through every function.

A copy on the meta device runs on the example; ``torch.overrides.TorchFunctionMode`` sees each function of torch with
its tensors, whatever Python code calls it, so that control flow needs no tracing. What happens in training mode is
read too. Functions without a rule keep their channels (:mod:`lightning_nas.spaces.own.following`).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_nas.choice import Layer, Repeat
from lightning_nas.errors import InputError, shown
from lightning_nas.ops.outputs import logits_of
from lightning_nas.spaces.own import following
from lightning_nas.spaces.own.attention import HeadsAttention, heads_of
from lightning_nas.spaces.own.axes import Axes, Axis, Channels, Part, divided, fix, fresh, meet
from lightning_nas.spaces.own.following import Call
from lightning_nas.spaces.own.inputs import Inputs, arguments
from lightning_nas.spaces.own.nested import each, replaced
from lightning_nas.spaces.own.resizing import RESOLUTION, Resizing
from lightning_nas.spaces.own.varied import Varied

BATCH = 31  # of the run: a number that is the size of no other axis, as far as possible


@dataclass
class Slot:
    """A tensor in the arguments of a recorded function.

    Attributes:
        shape: of the tensor.
        dtype: of the tensor.
        axes: its axes.
        name: of the parameter or buffer; None for what the network computes.
        learned: it is a parameter.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    axes: Axes
    name: str | None
    learned: bool


@dataclass
class Recorded:
    """One call of a function that computes something.

    Attributes:
        name: of the function.
        function: the function.
        args: positional arguments, tensors replaced by slots.
        kwargs: arguments by name, likewise.
        module: path of the module that called it.
        adjusted: arguments that follow a width: (axis, places for each unit).
        batch: examples in the run.
        under: options of decisions whose attributes the module had.
    """

    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    module: str
    adjusted: dict[str, tuple[tuple[Part, ...], int]]
    batch: int
    under: dict[str, tuple[str, ...]]

    @property
    def slots(self) -> list[Slot]:
        """The tensors, in order."""
        return list(each((self.args, self.kwargs), Slot))


@dataclass
class Reading:
    """Record of one run of a module.

    Attributes:
        axes: axes of every parameter and buffer, by name.
        calls: functions that compute something, in evaluation mode.
        adjusted: attributes of modules that follow a width, by (path, attribute): (axis, places for each unit).
        reads: (parameter, axis) that a function sums over.
        residual: paths of modules that add something to their input and return the same shape, normalised or not.
        further: paths of modules that are called with more than one argument.
        unknown: functions without a rule, and where they are called.
        output: shape of the output for one example.
        output_axes: axes of the output.
        graph: the layers and what each reads, for pictures.
        batch: examples in the run.
        paired: heads, the channels that their module was given, and the path of the module.
        misfits: (path of a layer that a rule placed, option, why it cannot be there).
        resolution: option of the images' own size, where the size is a decision; else "".
    """

    axes: dict[str, Axes]
    calls: list[Recorded] = field(default_factory=list)
    adjusted: dict[tuple[str, str], tuple[tuple[Part, ...], int]] = field(default_factory=dict)
    reads: set[tuple[str, int]] = field(default_factory=set)
    residual: list[str] = field(default_factory=list)
    further: set[str] = field(default_factory=set)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    output: tuple[int, ...] = ()
    output_axes: Axes = field(default_factory=list)
    graph: nx.DiGraph[str] = field(default_factory=nx.DiGraph)
    batch: int = BATCH
    paired: list[tuple[Channels, tuple[Part, ...], str]] = field(default_factory=list)
    misfits: dict[tuple[str, str], str] = field(default_factory=dict)
    resolution: str = ""

    @property
    def whole(self) -> list[Recorded]:
        """The functions that compute something from images of their own size."""
        if not self.resolution:
            return self.calls
        return [call for call in self.calls if call.under[RESOLUTION] == (self.resolution,)]

    @property
    def class_axis(self) -> int:
        """The axis of the output that counts classes: the one that has channels, else the first after the batch."""
        wide = [place for place, axis in enumerate(self.output_axes) if place and axis is not None]
        return wide[0] if len(wide) == 1 else 1

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.output[self.class_axis - 1]


def read(module: nn.Module, inputs: Inputs) -> Reading:
    """Run a copy of the module on inputs of one shape, in evaluation and in training mode.

    Args:
        module: the module; it is not changed. It runs once at each size of its resolution, if that is a decision.
        inputs: of the module.

    Raises:
        InputError: the module does not run on such an input, or does not return one tensor.
    """
    try:
        return _read(module, inputs, torch.device("meta"), BATCH)
    except InputError:
        raise
    except Exception:  # noqa: BLE001  any code of the user's may need values
        try:
            return _read(module, inputs, torch.device("cpu"), 2)
        except InputError:
            raise
        except Exception as reason:
            said = shown(f"{type(reason).__name__}: {reason}")
            shapes = " and ".join(str(tuple(x.shape[1:])) for x in inputs.tensors)
            raise InputError(f"the module does not run on an example of shape {shapes}: {said}") from reason


def _read(module: nn.Module, inputs: Inputs, device: torch.device, batch: int) -> Reading:
    ran = copied(module, device)
    named = all_named(ran)
    reading = Reading({name: fresh(tensor.shape, name) for name, tensor in named.items()}, batch=batch)
    for path, heads, held in heads_of(ran):
        reading.adjusted[path, "num_heads"] = (heads, 1)
        for name, axis in held.items():
            reading.axes[name][0] = axis
    for training, (option, size) in itertools.product((False, True), _sizes(ran)):
        if isinstance(ran, Resizing):
            ran.input_size = size
        x = inputs.batch(batch, device)
        run = _Run(reading, ran.train(training), x, inputs.rows, option, drawn=not training and size is None)
        args, kwargs = arguments(x)
        with run, torch.no_grad():
            y = logits_of(ran(*args, **kwargs))
        if not isinstance(y, Tensor) or y.dim() < 2 or y.shape[0] != batch:
            mode = "training" if training else "evaluation"
            came = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise InputError(
                f"the module must return one tensor (batch, classes); in {mode} mode it returns {came} for a batch of "
                f"{batch}; switch its auxiliary outputs off, or wrap it"
            )
        run.finish(y)
    divide_all(reading)
    return reading


def _sizes(module: nn.Module) -> list[tuple[str, Any]]:
    """Option and size of each resolution at which a module runs; one of no name if it is no decision."""
    told = module.resolution if isinstance(module, Resizing) else None
    return [("", None)] if told is None else list(zip(told.options, told.sizes, strict=True))


def divide_all(reading: Reading) -> None:
    """Let every axis have the parts that its channels were divided into."""
    for axes in [*reading.axes.values(), *(slot.axes for call in reading.calls for slot in call.slots)]:
        axes[:] = map(divided, axes)
    reading.output_axes = [divided(axis) for axis in reading.output_axes]
    for call in reading.calls:
        call.adjusted.update({name: (divided(axis) or (), unit) for name, (axis, unit) in call.adjusted.items()})
    reading.adjusted.update({place: (divided(axis) or (), unit) for place, (axis, unit) in reading.adjusted.items()})


def copied(module: nn.Module, device: torch.device) -> nn.Module:
    """A copy of a module on a device, with its tied weights; on the meta device no values are copied."""
    memo: dict[int, Any] = {}
    if device.type == "meta":
        for parameter in module.parameters():
            empty = torch.empty_like(parameter, device=device)
            memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
        for buffer in module.buffers():
            memo[id(buffer)] = torch.empty_like(buffer, device=device)
    return copy.deepcopy(module, memo)


class _Run(TorchFunctionMode):
    """One run of a module that notes each function."""

    def __init__(
        self, reading: Reading, module: nn.Module, x: Any, rows: dict[int, int], size: str, *, drawn: bool
    ) -> None:
        super().__init__()
        self.reading, self.training, self.drawn = reading, module.training, drawn
        self.names = {id(tensor): name for name, tensor in all_named(module).items()}
        given = list(each(x, Tensor))
        self.held: list[Tensor] = [*given, *module.parameters(), *module.buffers()]  # an id is not used again
        self.axes = {id(t): reading.axes[self.names[id(t)]] for t in self.held[len(given) :]}
        self.rows, self.inputs = rows, {id(tensor): place for place, tensor in enumerate(given)}
        self.learned = {id(p) for p in module.parameters()}
        self.roots: dict[int, dict[int, bool]] = {}  # tensors that one comes from by additions
        self.layers: dict[int, frozenset[str]] = {id(tensor): frozenset(["input"]) for tensor in given}
        self.stack: list[tuple[str, nn.Module, Tensor | None]] = [("", module, given[0])]
        self.entered: dict[str, int] = {}
        self.likely: dict[tuple[str, str], list[tuple[Part, ...]]] = {}
        self.returned: dict[str, Axis] = {}  # last axis of what each module returns
        self.residual: list[str] = []
        self.under: dict[str, tuple[str, ...]] = {RESOLUTION: (size,)} if size else {}
        self.handles = []
        for path, child in module.named_modules():
            if isinstance(child, (Layer, Repeat)):
                child.reader = self._alternatives
            elif isinstance(child, HeadsAttention):
                child.apart = True
            if isinstance(child, Varied):
                child.reader = self._settings
            self.handles.append(child.register_forward_pre_hook(self._entering(path), with_kwargs=True))
            self.handles.append(child.register_forward_hook(self._leaving(path)))

    def finish(self, y: Tensor) -> None:
        """Note the output, and let go of the module."""
        for handle in self.handles:
            handle.remove()
        fix(self._axes(y), "they are the output")
        for place, told in self.likely.items():
            by_channels = {_channels(axis): axis for axis in told}
            returned = by_channels.get(_channels(self.returned.get(place[0])))
            if (len(by_channels) == 1 or returned) and place not in self.reading.adjusted:
                self.reading.adjusted[place] = (returned or told[0], 1)
        if not self.training:
            once = dict.fromkeys(path for path in self.residual if self.entered[path] == 1)
            known = self.reading.residual if self.reading.output else once  # those at all sizes of the images
            self.reading.residual = [path for path in known if path in once]
            self.reading.output, self.reading.output_axes = tuple(y.shape[1:]), self._axes(y)
        if self.drawn:
            self.reading.resolution = next(iter(self.under.get(RESOLUTION, ())), "")
            self._node("output", self.layers.get(id(y), frozenset()))

    # -- modules ------------------------------------------------------------------------------------------------

    def _entering(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.entered[path] = self.entered.get(path, 0) + 1
            x = args[0] if args and isinstance(args[0], Tensor) else None
            self.reading.further.update([path] if len(args) + len(kwargs) > 1 else [])
            self.stack.append((path, module, x))
            query = kwargs.get("query", x)
            if isinstance(module, HeadsAttention) and query is not None and (axis := self._axes(query)[-1]) is not None:
                known = self.reading.adjusted.setdefault((path, "embed_dim"), (axis, 1))
                meet([divided(known[0])], 0, [axis], 0, f"{path} runs at several widths")

        return hook

    def _leaving(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            x = self.stack.pop()[2]
            if isinstance(output, Tensor) and output.dim():
                self.returned[path] = self._axes(output)[-1]
            if self.training or not path or x is None or not isinstance(output, Tensor) or x.shape != output.shape:
                return
            if self.roots.get(id(output), {}).get(id(x)):
                self.residual.append(path)

        return hook

    # -- choices ------------------------------------------------------------------------------------------------

    def _alternatives(self, chooser: Layer | Repeat, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Run every option, and join the channels of their outputs."""
        path = self.stack[-1][0]
        outputs = dict[str, Tensor]()
        if isinstance(chooser, Layer):
            for name in chooser:
                running = len(self.stack)
                try:
                    outputs[name] = _unchanged(chooser[name], args, kwargs, f"{path}.{name}")
                except Exception as reason:  # any code of the user's
                    if not chooser.replaces or name == chooser.largest:
                        raise
                    del self.stack[running:]
                    self.reading.misfits[path, name] = shown(f"{type(reason).__name__}: {reason}")
            last = chooser.largest
        else:
            steps = [(y, y._version) for _, y in chooser.steps(args[0], args[1:], kwargs, len(chooser))]
            outputs = {str(number): steps[number][0] for number in chooser.depths}
            last = str(chooser.depth)
            if any(steps[number][0]._version != steps[number][1] for number in chooser.depths):
                raise InputError(f"{path}: a block changes its input in place, which is the output of fewer blocks")
        for name, y in list(outputs.items()):
            if not isinstance(y, Tensor) or y.shape != outputs[last].shape:
                came = f"gives the shape {tuple(y.shape[1:])}" if isinstance(y, Tensor) else f"gives {type(y).__name__}"
                why = f"{came}, {last} gives {tuple(outputs[last].shape[1:])}"
                if not (isinstance(chooser, Layer) and chooser.replaces):
                    raise InputError(f"{path or 'the module'}: option {name} {why}; legal: one shape for all options")
                self.reading.misfits[path, name] = why
                del outputs[name]
        return self._joined(path, outputs, last)

    def _settings(self, module: Varied, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the module under every option of its attributes, and join the channels of the outputs."""
        path, before = self.stack[-1][0], self.under
        inputs = [(x, x._version) for x in each((args, kwargs), Tensor)]
        outputs, last = dict[str, Any](), ""
        for chosen in module.combinations():
            self.under = before | {name: (option,) for name, option in chosen.items()}
            last = ", ".join(f"{name}={option}" for name, option in chosen.items())
            outputs[last] = module.run(chosen, *args, **kwargs)
        self.under = before
        for option, y in outputs.items():
            if not isinstance(y, Tensor) or y.shape != outputs[last].shape:
                came = f"the shape {tuple(y.shape[1:])}" if isinstance(y, Tensor) else type(y).__name__
                raise InputError(
                    f"{path or 'the module'} gives {came} under {option}; legal: one shape for all options"
                )
        if any(x._version != version for x, version in inputs):
            raise InputError(f"{path or 'the module'} changes its input in place, which other options read")
        sources = frozenset[str]().union(*(self.layers.get(id(y), frozenset()) for y in outputs.values()))
        made = self._joined(path, outputs, last, drawn=False)
        self.layers[id(made)] = sources
        return made

    def _joined(self, path: str, outputs: Mapping[str, Tensor], last: str, *, drawn: bool = True) -> Tensor:
        made = outputs[last].clone()
        axes = list(self._axes(outputs[last]))
        for y in outputs.values():
            others = self._axes(y)
            for i in range(len(axes)):
                meet(axes, i, others, i, f"{path or 'the module'} chooses between them and others")
                if axes[i] is None or others[i] is None:
                    axes[i] = None
        self.axes[id(made)], self.roots[id(made)] = axes, {}
        if self.drawn and drawn:
            node = self._node(path or "choice", frozenset())
            for name, y in outputs.items():
                for source in self.layers.get(id(y), frozenset()):
                    self.reading.graph.add_edge(source, node)
                    self.reading.graph.edges[source, node].setdefault("options", []).append(name)
            self.layers[id(made)] = frozenset([node])
        return made

    # -- functions ----------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        shapes = {id(t): tuple(t.shape) for t in each((args, kwargs), Tensor)}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func)).strip("_")
        out = tuple(each(result, Tensor))
        if not shapes or (not out and name != "setitem"):
            return result
        path, module, _ = self.stack[-1]
        call = Call(name, args, kwargs, out, f"{name} in {path or 'the module itself'}", self._axes,
                    lambda attribute, value: getattr(module, attribute, None) == value,
                    lambda value: _attributes(module, value), self._read)  # fmt: skip
        rule = following.RULES.get(name, following.unknown)
        if any(axis is not None for t in call.tensors for axis in self._axes(t)):
            made = self._follow(rule, call)
        else:
            made = [[None] * t.dim() for t in out]
        self._note(call, func, path)
        for tensor, axes in zip(out, made, strict=False):
            self.held.append(tensor)
            self.axes[id(tensor)] = axes
        return result

    def _read(self) -> Axis:
        """The last axis of what the module that runs was given."""
        x = self.stack[-1][2]
        return None if x is None or not x.dim() else self._axes(x)[-1]

    def _axes(self, tensor: Tensor) -> Axes:
        if id(tensor) not in self.axes:
            self.held.append(tensor)
            self.axes[id(tensor)] = [None] * tensor.dim()
        axes = self.axes[id(tensor)]
        axes[:] = map(divided, axes)
        return axes

    def _follow(self, rule: following.Rule, call: Call) -> list[Axes]:
        try:
            made = rule(call)
        except (IndexError, TypeError, AttributeError, KeyError):  # arguments in a form that the rule does not know
            rule, made = following.unknown, following.unknown(call)
        if rule is following.unknown:
            self.reading.unknown.setdefault(call.name, []).append(self.stack[-1][0])
        for parameter, axis in call.reads:
            if name := self.names.get(id(parameter)):
                self.reading.reads.add((name, axis % parameter.dim()))
        for attribute, told in call.adjusted.items():
            known = self.reading.adjusted.setdefault((self.stack[-1][0], attribute), told)
            if known is not told:
                meet([divided(known[0])], 0, [divided(told[0])], 0, f"{call.where} runs at several widths")
        self.reading.paired += [(heads, given, self.stack[-1][0]) for heads, given in call.paired]
        for attribute, told in call.likely.items():
            self.likely.setdefault((self.stack[-1][0], attribute), []).append(told[0])
        return made

    def _note(self, call: Call, function: Any, path: str) -> None:
        """Record the call, what it adds up, and the layers that it reads."""
        inputs = list(call.tensors)
        sources = frozenset().union(*(self.layers.get(id(t), frozenset()) for t in inputs))
        added = call.name in following.ADDITIONS
        passed = added or call.name in following.PASSING
        roots: dict[int, bool] = {}
        for tensor in inputs if passed else ():
            for key, was in {id(tensor): False, **self.roots.get(id(tensor), {})}.items():
                roots[key] = roots.get(key, False) or was or added
        if len(inputs) > 0 and (place := self.inputs.get(id(inputs[0]))) is not None:
            if call.name in following.VIEWS | following.COPIES:
                self.inputs.update((id(tensor), place) for tensor in call.out)
            elif call.name == "embedding":
                self.rows[place] = min(len(inputs[1]), self.rows.get(place, len(inputs[1])))
        learned = any(id(t) in self.learned for t in inputs)
        drawn = LAYERS | {"embedding", "addmm"} | self.reading.unknown.keys()
        if learned and self.drawn and call.name in drawn and sources:
            sources = frozenset([self._node(path or call.name, sources)])
        for tensor in call.out:
            self.roots[id(tensor)], self.layers[id(tensor)] = roots, sources
        computes = call.name not in following.VIEWS | following.DROPOUTS | following.COPIES and call.out
        if computes and not self.training and any(t.is_floating_point() for t in inputs):
            args, kwargs = self._stored(call.args), self._stored(call.kwargs)
            self.reading.calls.append(
                Recorded(call.name, function, args, kwargs, path, dict(call.adjusted), self.reading.batch, self.under)
            )

    def _node(self, name: str, sources: frozenset[str]) -> str:
        graph, number, unique = self.reading.graph, 1, name
        while unique in graph:
            number += 1
            unique = f"{name} ({number})"
        graph.add_node("input", label="input")
        graph.add_node(unique, label=unique)
        graph.add_edges_from((source, unique) for source in sorted(sources))
        return unique

    def _stored(self, value: Any) -> Any:
        """Arguments with slots for tensors."""

        def slot(tensor: Tensor) -> Slot:
            name = self.names.get(id(tensor))
            return Slot(tuple(tensor.shape), tensor.dtype, self._axes(tensor), name, id(tensor) in self.learned)

        return replaced(value, Tensor, slot)


def _channels(axis: Axis) -> tuple[tuple[Channels, Any], ...]:
    """The channels on an axis and the places of each."""
    return tuple((part.channels.root, part.times) for part in divided(axis) or ())


def _attributes(module: nn.Module, value: int) -> list[str]:
    """Names of the attributes of a person's own module that are a number."""
    if value < 2 or type(module).__module__.startswith("torch.nn."):
        return []
    return [name for name, held in vars(module).items() if type(held) is int and held == value and name != "training"]


def _unchanged(option: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], where: str) -> Any:
    """What an option returns; an error if it changes the input, which is that of the other options too."""
    before = [x._version for x in each((args, kwargs), Tensor)]
    y = option(*args, **kwargs)
    if before != [x._version for x in each((args, kwargs), Tensor)]:
        raise InputError(f"{where} changes its input in place, which other options read; give it inplace=False")
    return y


LAYERS = {"linear", *(f"conv{rank}d" for rank in (1, 2, 3)), *(f"conv_transpose{rank}d" for rank in (1, 2, 3))}


def all_named(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; tied ones once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
