"""A network as one readable Python file that needs torch alone."""

from __future__ import annotations

import copy
import inspect
import operator
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import _get_qualified_name

from lightning_nas.data.preprocessing import Preprocessing
from lightning_nas.errors import InputError, shown
from lightning_nas.export.tracing import is_input, traced
from lightning_nas.export.trained import Trained

_BATCH = 3
_INFIX = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "matmul": "@"}
_LINE = 116

Call = tuple[tuple[Any, ...], dict[str, Any]]


def network_code(network: nn.Module, x: Tensor, choices: Sequence[tuple[str, str]] = ()) -> tuple[str, str]:
    """The classes of a network and the expression that builds it.

    Every module with a forward pass of its own becomes a class of that pass alone; a pass that occurs often is written
    once. Names of weights stay.

    Args:
        network: in eval mode.
        x: an input, of which only the shape and the type count.
        choices: of the network's architecture. Those that are numbered as a list of layers are written beside them.

    Returns:
        The text of the classes, and the expression.

    Raises:
        InputError: a module whose computation depends on values.

    Example:
        >>> from lightning_nas.spaces.nasbench201.space import NASBench201Space
        >>> space = NASBench201Space(input_shape=(1, 8, 8), num_classes=10)
        >>> network = space.network(space.sample(torch.Generator().manual_seed(0))).eval()
        >>> classes, expression = network_code(network, torch.zeros(1, 1, 8, 8))
        >>> expression.splitlines()[0]
        'Network('
    """
    writer = _Writer(network, x, choices)
    expression = writer.built(writer.network, "", 0)
    return "\n\n\n".join(writer.classes), expression


class _Writer:
    """Collects classes while the expression of a network is written."""

    def __init__(self, network: nn.Module, x: Tensor, choices: Sequence[tuple[str, str]]) -> None:
        self.network = copy.deepcopy(network).to("meta").eval()
        self.classes: list[str] = []
        self._choices = choices
        self._names: dict[tuple[str, str], str] = {}
        self._calls = _calls(self.network, x)
        self._bodies: dict[str, str | None] = {}

    def built(self, module: nn.Module, name: str, depth: int) -> str:
        """The expression that makes a module."""
        kind = type(module)
        if kind in (nn.ModuleList, nn.ParameterList):
            held: Sequence[Any] = list(module)  # type: ignore[call-overload]
            parts = [self._part(part, f"{name}.{i}", depth + 1) for i, part in enumerate(held)]
            said = _numbered(self._choices, name.removesuffix("s"))
            if parts and len(said) == len(parts) == max(said):
                pad = "    " * (depth + 1)
                parts = [f"{_comment(said[number], pad)}{pad}{part}" for number, part in enumerate(parts, 1)]
            return _listed(f"nn.{kind.__name__}([", parts, "])", depth)
        if kind is nn.ModuleDict:
            named = [
                f'"{key}": {self._part(part, f"{name}.{key}", depth + 1)}' for key, part in module.named_children()
            ]
            return _listed("nn.ModuleDict({", named, "})", depth)
        if isinstance(module, nn.Sequential) and kind.forward is nn.Sequential.forward:
            return self._sequence(module, name, depth)
        if _is_of_torch(module):
            return _constructor(module)
        body = self._forward(module, name)
        if body is None and not module.state_dict():
            return "nn.Identity()"
        children = [(key, part) for key, part in module.named_children() if not self._changes_nothing(part, name, key)]
        own = [*children, *module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        made = [(key, self._part(part, f"{name}.{key}", depth + 1)) for key, part in own]
        parts = [f"{key}={part}" if key.isidentifier() else f"**{{{key!r}: {part}}}" for key, part in made]
        return _listed(f"{self._class(module, body)}(", parts, ")", depth)

    def _part(self, part: Any, name: str, depth: int) -> str:
        if isinstance(part, nn.Module):
            return self.built(part, name.removeprefix("."), depth)
        dtype = "" if part.dtype == torch.float32 else f", dtype={part.dtype}"
        made = f"torch.zeros({', '.join(map(str, part.shape))}{dtype})" if part.shape else f"torch.tensor(0{dtype})"
        return f"nn.{'Parameter' if isinstance(part, nn.Parameter) else 'Buffer'}({made})"

    def _sequence(self, module: nn.Sequential, name: str, depth: int) -> str:
        keys = list(dict(module.named_children()))
        parts = [self._part(part, f"{name}.{key}", depth + 1) for key, part in module.named_children()]
        if keys == [str(number) for number in range(len(keys))]:
            return _listed("nn.Sequential(", parts, ")", depth)
        named = [f"{key}={part}" for key, part in zip(keys, parts, strict=True)]
        return _listed("named(", named, ")", depth)

    def _class(self, module: nn.Module, body: str | None) -> str:
        kind = "Network" if module is self.network else type(module).__name__.strip("_")
        known = self._names.get((kind, body or ""))
        if known is None:
            count = sum(kind == other for other, _ in self._names)
            known = f"{kind}{count + 1}" if count else kind
            self._names[kind, body or ""] = known
            said = (inspect.getdoc(type(module)) or kind).splitlines()[0].replace('"""', "'''")
            text = f'class {known}(Block):\n    """{said}"""\n'
            self.classes.append(text if body is None else f"{text}\n{body}")
        return known

    def _changes_nothing(self, module: nn.Module, parent: str, key: str) -> bool:
        """Whether a child is a step that gives its input back, as drop-path does outside of training."""
        if type(module) is nn.Identity:
            return True
        name = f"{parent}.{key}".removeprefix(".")
        return not (_is_of_torch(module) or module.state_dict()) and self._forward(module, name) is None

    def _forward(self, module: nn.Module, name: str) -> str | None:
        """The text of the forward pass; None for a module that is never called, or gives its input back."""
        if name not in self._bodies:
            self._bodies[name] = self._traced(module, name) if name in self._calls else None
        return self._bodies[name]

    def _traced(self, module: nn.Module, name: str) -> str | None:
        graph = traced(module, *self._calls[name])
        graph.owning_module = module  # type: ignore[assignment]
        [output] = [node for node in graph.nodes if node.op == "output"]
        if isinstance(output.args[0], fx.Node) and output.args[0].op == "placeholder":
            return None
        for node in list(graph.nodes):
            if node.op != "call_module":
                continue
            key, child = str(node.target), module.get_submodule(str(node.target))
            if "." not in key and self._changes_nothing(child, name, key):
                node.replace_all_uses_with(node.all_input_nodes[0])
                graph.erase_node(node)
            elif not _is_of_torch(child):
                node.args = tuple(value for value in node.args if is_input(value))
                node.kwargs = {key: value for key, value in node.kwargs.items() if is_input(value)}
        return _method(graph)


def _numbered(choices: Sequence[tuple[str, str]], stem: str) -> dict[int, list[str]]:
    """The decisions ``<stem>_<number>`` and ``<stem>_<number>_...`` with their options, by number.

    >>> _numbered([("layer_01", "k3_e1"), ("layer_02", "skip"), ("depth", "2")], "layer")
    {1: ['layer_01: k3_e1'], 2: ['layer_02: skip']}
    """
    found: dict[int, list[str]] = {}
    for decision, option in choices:
        if known := re.fullmatch(rf"{re.escape(stem)}_(\d+)(_.*)?", decision):
            found.setdefault(int(known[1]), []).append(f"{decision}: {option}")
    return found


def _comment(said: Sequence[str], pad: str) -> str:
    """Comment lines, of which the first is not indented."""
    lines = textwrap.wrap(", ".join(said), _LINE - len(pad), break_on_hyphens=False)
    return "".join(f"{pad if number else ''}# {line}\n" for number, line in enumerate(lines))


def _is_of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.")


def _calls(network: nn.Module, x: Tensor) -> dict[str, Call]:
    """The arguments of the first call of every module; one that has several names is called by all of them."""
    found: dict[str, Call] = {}
    hooks = []
    for name, module in network.named_modules(remove_duplicate=False):

        def note(_: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            found.setdefault(name, (args, kwargs))

        hooks.append(module.register_forward_pre_hook(note, with_kwargs=True))
    try:
        with torch.no_grad():
            network(torch.empty((_BATCH, *x.shape[1:]), dtype=x.dtype, device="meta"))
    except (RuntimeError, NotImplementedError) as reason:
        inner = type(network.get_submodule(list(found)[-1])).__name__
        raise InputError(f"a {inner} cannot be written as plain code: {shown(str(reason), 200)}") from None
    finally:
        for hook in hooks:
            hook.remove()
    return found


# -- a forward pass as text -----------------------------------------------------------------------------------------


def _method(graph: fx.Graph) -> str:
    names: dict[fx.Node, str] = {}
    nodes = [node for node in graph.nodes if node.op != "output"]
    inputs = [node for node in nodes if node.op == "placeholder"]
    for node in inputs:
        names[node] = str(node.target)
    lines = [f"    def forward(self, {', '.join(names.values())}):"]
    for node in nodes:
        if node.op == "placeholder":
            continue
        text = _expression(node, names)
        if node.op == "get_attr" or _is_inline(node):
            names[node] = text
            continue
        names[node] = _name(node, names)
        lines.append(f"        {names[node]} = {text}")
    [output] = [node for node in graph.nodes if node.op == "output"]
    last = _text(output.args[0], names)
    if len(lines) > 1 and lines[-1].startswith(f"        {last} = "):
        last = lines.pop().partition(" = ")[2]
    lines.append(f"        return {last}")
    return "\n".join(lines)


def _is_inline(node: fx.Node) -> bool:
    """Whether a value is written where it is used: sizes and parts of tuples."""
    return (node.target == "size" and node.op == "call_method") or (
        node.target is operator.getitem
        and isinstance(node.args[0], fx.Node)
        and isinstance(node.args[0].meta["value"], (tuple, list, dict))
    )


def _name(node: fx.Node, names: Mapping[fx.Node, str]) -> str:
    """The name of the only input that is used nowhere else, else a new one."""
    used = [other for other in node.all_input_nodes if other.op != "get_attr"]
    if len(used) == 1 and list(used[0].users) == [node] and names[used[0]].isidentifier():
        return names[used[0]]
    taken = set(names.values())
    stem = str(node.target).rpartition(".")[2] if node.op == "call_module" else node.name
    stem = node.name if not stem.isidentifier() else stem
    return stem if stem not in taken and stem != "self" else f"{stem}_{len(taken)}"


def _expression(node: fx.Node, names: Mapping[fx.Node, str]) -> str:
    args = [_text(argument, names) for argument in node.args]
    named = [f"{key}={_text(value, names)}" for key, value in node.kwargs.items()]
    if node.op == "get_attr":
        return _path(node)
    if node.op == "call_module":
        return f"{_path(node)}({', '.join([*args, *named])})"
    if node.op == "call_method":
        return f"{args[0]}.{node.target}({', '.join([*args[1:], *named])})"
    if node.target is operator.getitem:
        return f"{args[0]}[{_index(node.args[1], names)}]"
    if node.target is getattr:
        return f"{args[0]}.{node.args[1]}"
    name = str(getattr(node.target, "__name__", ""))
    if getattr(node.target, "__module__", "") == "_operator" and name in _INFIX:
        return f"{args[0]} {_INFIX[name]} {args[1]}" if len(args) == 2 else f"{_INFIX[name]}{args[0]}"
    full = _get_qualified_name(node.target)  # type: ignore[arg-type]
    if full.startswith("torch.nn.functional."):
        full = f"F.{full.rpartition('.')[2]}"
    if not full.startswith(("F.", "torch.")):
        raise InputError(f"the function {full} is none of torch: it cannot be written as plain code")
    return f"{full}({', '.join([*args, *named])})"


def _path(node: fx.Node) -> str:
    """``layers.0.norm`` of the module itself, as Python writes it."""
    first, *others = str(node.target).split(".")
    place = getattr(node.graph.owning_module, first, None)
    text = f"self.{first}" if first.isidentifier() else f"getattr(self, {first!r})"
    for part in others:
        inside = f"[{part!r}]" if isinstance(place, nn.ModuleDict) else f"[{part}]"
        text += f".{part}" if part.isidentifier() else inside
        place = place.get_submodule(part) if isinstance(place, nn.Module) and part in place._modules else None
    return text


def _text(value: Any, names: Mapping[fx.Node, str]) -> str:
    if isinstance(value, fx.Node):
        return names[value]
    if isinstance(value, (list, tuple)):
        inner = ", ".join(_text(entry, names) for entry in value)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_text(entry, names)}' for key, entry in value.items())}}}"
    return repr(value)


def _index(value: Any, names: Mapping[fx.Node, str]) -> str:
    if isinstance(value, slice):
        ends = ["" if end is None else _text(end, names) for end in (value.start, value.stop, value.step)]
        return ":".join(ends if ends[2] else ends[:2])
    if isinstance(value, tuple):
        return ", ".join(_index(entry, names) for entry in value)
    return "..." if value is Ellipsis else _text(value, names)


# -- constructors as text -------------------------------------------------------------------------------------------


def _constructor(module: nn.Module) -> str:
    """The call that makes a module of torch, without the arguments that are defaults."""
    kind = type(module)
    said = list[str]()
    for name, parameter in list(inspect.signature(kind.__init__).parameters.items())[1:]:
        if name in ("device", "dtype") or not hasattr(module, name):
            continue
        value = _short(getattr(module, name))
        if name == "bias":
            value = value is not None and value is not False
        required = parameter.default is inspect.Parameter.empty
        if not required and value == parameter.default:
            continue
        positional = required and len(said) < 3
        said.append(repr(value) if positional else f"{name}={value!r}")
    return f"nn.{kind.__name__}({', '.join(said)})"


def _short(value: Any) -> Any:
    """A pair of equal numbers as one."""
    if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1] and type(value[0]) is int:
        return value[0]
    return value


def _listed(start: str, parts: Sequence[str], end: str, depth: int) -> str:
    """Parts on one line if they fit, else a line each."""
    line = f"{start}{', '.join(parts)}{end}"
    if "\n" not in line and 4 * depth + len(line) < _LINE:
        return line
    pad = "    " * (depth + 1)
    return f"{start}\n" + "".join(f"{pad}{part},\n" for part in parts) + "    " * depth + end


# -- the whole file -------------------------------------------------------------------------------------------------

_FILE = '''\
"""{title}

Made by lightning_nas; needs torch alone.

    network = load()  # the weights are in {weights}, beside this file
    logits = network(normalised(pixels))

{choices}
"""

import hashlib
import io
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

WEIGHTS = Path(__file__).with_name("{weights}")
SHA256 = "{digest}"  # of that file
PREPROCESSING = {preprocessing}


class Block(nn.Module):
    """A module of named parts; a subclass says how they are run."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def named(**layers):
    """Layers one after another, by name."""
    return nn.Sequential(OrderedDict(layers))


{classes}


def build():
    """The network with fresh weights, in evaluation mode: {shapes}."""
    return {expression}.eval()


def load():
    """The trained network. A file of weights that is damaged, or not the one of this network, is refused unread."""
    content = WEIGHTS.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"{{WEIGHTS}} is damaged, or holds other weights than those of this network")
    network = build()
    network.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    return network


def normalised(pixels):
    """The network's input of pixels (N, C, H, W) in the size and channels of PREPROCESSING; words stay as they are.

    Pixels are bytes (uint8), numbers of 16 bits (uint16), or floats as in training: from 0 to 1 for image files.
    """
    mean, std = PREPROCESSING["mean"], PREPROCESSING["std"]
    if mean is None:
        return pixels
    if pixels.dtype == torch.uint8:
        pixels = pixels.float() * (1 / 255)
    elif pixels.dtype == torch.uint16:
        pixels = pixels.float() / 65535
    elif not pixels.is_floating_point():
        raise TypeError(f"pixels are uint8, uint16 or floats, not {{pixels.dtype}}")
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
'''


def network_file(trained: Trained, x: Tensor, weights: str, digest: str) -> str:
    """The text of a Python file with ``build()``, ``load()``, the preprocessing and the names of the classes.

    Args:
        trained: the network.
        x: an input; a language model reads windows of its length.
        weights: name of the file of weights beside it.
        digest: SHA-256 of that file.

    Raises:
        InputError: the network cannot be written as plain code.
    """
    classes, expression = network_code(trained.network, x, trained.architecture.choices)
    known, architecture = trained.preprocessing, trained.architecture
    about = known.model_dump(mode="json", exclude={"format"})
    lines = "".join(f"    {key!r}: {value!r},\n" for key, value in about.items())
    shape = ", ".join(map(str, known.input_shape))
    unused = "" if "F." in classes else "from torch.nn import functional as F\n"
    text = _FILE.format(
        title=f"A network of the search space {architecture.space}, found by architecture search.",
        choices="\n".join(f"{decision}: {option}" for decision, option in architecture.choices),
        preprocessing="{\n" + lines + "}",
        classes=classes,
        expression=expression.replace("\n", "\n    "),
        shapes=f"(N, {shape}) in, {_out(known)} out",
        weights=weights,
        digest=digest,
    )
    return text.replace(unused, "") if unused else text


def _out(known: Preprocessing) -> str:
    """The outputs of a network in words."""
    if known.outputs == "numbers":
        scale = "times target_std plus target_mean of PREPROCESSING they have their own unit"
        return f"{len(known.classes)} standardised numbers ({scale})"
    if known.outputs == "masks":
        return f"a number for each of {len(known.classes)} classes and each pixel of a smaller picture (N, K, h, w)"
    return f"a number for each of {len(known.classes)} {'labels' if known.outputs == 'labels' else 'classes'}"
