"""The forward pass of one module as a graph of its children's calls, with the sizes of every tensor known.

``torch.fx`` follows Python with stand-ins for tensors. Here each stand-in also holds a tensor of the meta device, so
that code that asks for channels or pixels gets numbers; the size of the batch stays a variable.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.fx.proxy import TraceError

from lightning_nas.errors import InputError, shown

_VALUE = "value"


class Sized(fx.Proxy):
    """Stand-in for a tensor, or for a number that depends on the batch."""

    @property
    def _known(self) -> Any:
        return self.node.meta[_VALUE]

    @property
    def shape(self) -> tuple[Any, ...]:
        """Size of the batch as a stand-in, all other sizes as numbers."""
        if self.node.op == "get_attr":
            return tuple(self._known.shape)
        return (self.tracer.create_proxy("call_method", "size", (self, 0), {}), *self._known.shape[1:])

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return len(self._known.shape)

    ndim = property(dim)

    @property
    def dtype(self) -> torch.dtype:
        found: torch.dtype = self._known.dtype
        return found

    def __len__(self) -> int:
        if self.node.op != "get_attr" and isinstance(self._known, Tensor):
            raise TraceError("the size of the batch decides what is computed")
        return len(self._known)

    def __getitem__(self, key: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.getitem, (self, key), {})

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self._known, dict):
            return iter(self._known)
        return (self[number] for number in range(len(self)))

    def items(self) -> list[tuple[Any, Any]]:
        """Keys, and stand-ins for the tensors of a dictionary."""
        return [(key, self[key]) for key in self._known]

    def values(self) -> list[Any]:
        """Stand-ins for the tensors of a dictionary."""
        return [self[key] for key in self._known]


class Tracer(fx.Tracer):
    """Trace one module; its children are calls.

    Args:
        args: of a call: tensors of the meta device, which become arguments of the graph, and constants.
        kwargs: further arguments by name.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.proxy_buffer_attributes = True
        self._args, self._kwargs, self._computes = args, kwargs, False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def proxy(self, node: fx.Node) -> Sized:
        return Sized(node, self)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Arguments of the graph for tensors; all else is as it was called."""
        names = [name for name in inspect.signature(root_fn).parameters if name != "self"]
        names += [f"{names[-1]}_{number}" for number in range(len(self._args))]  # of *args

        def made(name: str, value: Any) -> Any:
            if not is_input(value):
                return value
            self._given = value
            return self.create_proxy("placeholder", name, (), {})

        taken = [made(name, value) for name, value in zip(names, self._args, strict=False)]
        named = {name: made(name, value) for name, value in self._kwargs.items()}

        def called(root: nn.Module) -> Any:
            return root_fn(root, *taken, **named)

        return called, [self.root]

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        made = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        self._computes = True
        try:
            with torch.no_grad():
                made.node.meta[_VALUE] = self._computed(kind, target, made.node.args, made.node.kwargs)
        finally:
            self._computes = False
        return made

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """A call in the graph, unless the module is run to know the size of its output."""
        if self._computes or not any(m is own for own in self.root.modules()):
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        return attr_val if self._computes else super().getattr(attr, attr_val, parameter_proxy_cache)

    def _computed(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return self._given
        if kind == "get_attr":
            place, _, name = target.rpartition(".")
            return getattr(self.root.get_submodule(place), name)
        args, kwargs = (
            map_aggregate(given, lambda entry: entry.meta[_VALUE] if isinstance(entry, fx.Node) else entry)
            for given in (args, kwargs)
        )
        if kind == "call_module":
            return self.root.get_submodule(target)(*args, **kwargs)
        made: Callable[..., Any] = getattr(type(args[0]), target) if kind == "call_method" else target
        return made(*args, **kwargs)


def is_input(value: Any) -> bool:
    """Whether an argument of a call is a tensor, or a list or dictionary of tensors; all else is a constant."""
    parts = [value]
    if isinstance(value, (list, tuple)) and value:
        parts = list(value)
    elif isinstance(value, dict) and value:
        parts = list(value.values())
    return all(isinstance(part, (Tensor, fx.Node)) for part in parts)


def traced(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Graph:
    """The graph of one call of a module in eval mode on the meta device.

    Raises:
        InputError: what it computes depends on the values of tensors or on the size of the batch.
    """
    try:
        graph = Tracer(args, kwargs).trace(module)
    except (TraceError, TypeError, RuntimeError, NotImplementedError) as reason:
        raise InputError(
            f"a {type(module).__name__} cannot be written as plain code: {shown(str(reason), 200)}"
        ) from None
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output") and not str(node.target).endswith("_"):
            graph.erase_node(node)
    return graph
