"""Try narrower networks without values, and keep what the user's code does not allow whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from lightning_nas.errors import InputError, shown
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.own.axes import divided
from lightning_nas.spaces.own.elastic import Depth, Element, Found, Kernel, Width, is_inside
from lightning_nas.spaces.own.inputs import Inputs
from lightning_nas.spaces.own.reading import Reading, copied
from lightning_nas.spaces.own.shapes import Shapes
from lightning_nas.spaces.own.supernet import Form, OwnSupernet


def working(
    module: nn.Module,
    reading: Reading,
    found: Found,
    inputs: Inputs,
    written: Sequence[Element] = (),
    *,
    pairs: bool = True,
) -> Form | None:
    """The form of all decisions that work, alone and together; the others are added to ``found.fixed``.

    None if nothing works before heads and channels that are in ``found.failed`` are coupled.

    Code may hold a number that only fits the whole module, such as ``x.view(-1, 400)``. A few networks run without
    values (:func:`_trials`); where one fails, the decisions of the module that failed are left out until the rest
    works, and are then put back by halves until the guilty ones are found.

    Args:
        module: the module.
        reading: of the module.
        found: its decisions.
        inputs: of the module.
        written: the decisions of choices in the module.
        pairs: look for heads and channels that must be coupled.

    Raises:
        InputError: the module does not run under its own choices.
    """

    def fails(elements: Sequence[Element]) -> tuple[str, str] | None:
        return _fails(module, Form(reading, [e for e in found.elements if e in written or e in elements]), inputs)

    def reason(elements: Sequence[Element]) -> str | None:
        return None if (failed := fails(elements)) is None else failed[0]

    def kept(elements: list[Element], base: list[Element]) -> list[Element]:
        """Those of some elements that work beside others."""
        why = reason([*base, *elements]) if elements else None
        if why is None:
            return elements
        if len(elements) == 1:
            found.fixed.append((_what(elements[0]), f"the module's code fails at another size: {why}"))
            found.failed.append(elements[0])
            return []
        half = len(elements) // 2
        left = kept(elements[:half], base)
        return [*left, *kept(elements[half:], [*base, *left])]

    if written and (why := reason([])) is not None:
        names = ", ".join(dict.fromkeys(element.name for element in written))
        raise InputError(f"the module fails under its choices {names}: {why}")
    free = [element for element in found.elements if element not in written]
    failed = fails(free) if free else None
    if failed is None:
        return Form(reading, found.elements)
    heads, given = _pairs(module, reading, free, failed[1]) if pairs else ([], [])
    if heads and all(reason([e for e in free if e not in some]) is not None for some in (heads, given)):
        found.failed = [*heads, *given]
        return None
    left, suspects = free, list[Element]()
    while failed is not None and (new := [e for e in left if any(is_inside(path, failed[1]) for path in e.paths)]):
        suspects += new
        left = [e for e in left if e not in new]
        failed = fails(left)
    working = kept(left, []) if failed is not None else left
    working = [*working, *kept(suspects, working)]
    return Form(reading, [e for e in found.elements if e in written or e in working])


def _what(element: Element) -> str:
    if isinstance(element, Width):
        return f"{element.members[0]}: {element.channels.size} {'heads' if element.channels.heads else 'channels'}"
    if isinstance(element, Kernel):
        return f"{element.path}: {element.size}x{element.size} kernel"
    assert isinstance(element, Depth)  # no other element comes of a rule
    return f"{element.path}: leaving it out"


def _pairs(
    module: nn.Module, reading: Reading, elements: Sequence[Element], path: str
) -> tuple[list[Element], list[Element]]:
    """The heads of all modules of the class of one, and the channels that these modules are given."""
    widths = {element.channels.root: element for element in elements if isinstance(element, Width)}
    heads, given = dict[Element, None](), dict[Element, None]()
    for channels, axis, where in reading.paired:
        one, parts = widths.get(channels.root), divided(axis) or ()
        if (
            one is not None
            and len(parts) == 1
            and type(module.get_submodule(where)) is type(module.get_submodule(path))
        ):
            other = widths.get(parts[0].channels.root)
            if other is not None and other is not one:
                heads[one] = given[other] = None
    return list(heads), list(given)


def _fails(module: nn.Module, form: Form, inputs: Inputs) -> tuple[str, str] | None:
    """Why a network does not run or changes the output, and where; None if all of them work."""
    device = torch.device("meta" if form.reading.batch > 2 else "cpu")
    shapes = {form.groups[name]: (1, len(options)) for name, options in form.decisions.items()}
    batch = form.reading.batch
    supernet = OwnSupernet(copied(module, device), form)
    try:
        for chosen, training in _trials(form):
            gates = Gates.one_hot({form.groups[name]: [number] for name, number in chosen.items()}, shapes)
            with torch.no_grad(), Shapes():
                out = supernet.train(training)(inputs.batch(batch, device), gates)
            if tuple(out.shape) != (batch, *form.reading.output):
                return f"the output has the shape {tuple(out.shape[1:])}", ""
    except Exception as error:  # noqa: BLE001  any code of the user's may refuse a size
        return shown(f"{type(error).__name__}: {error}"), _where(error, supernet.network, form)
    return None


def _trials(form: Form) -> Iterator[tuple[dict[str, int], bool]]:
    """Numbers of options to try, and whether in training mode.

    First the smallest network, and that with all blocks in training; then the middle one. Then decisions get their
    first and their last options in turn, and heads others than the rest: code may need equal shares of two of them.
    """
    last = {name: len(options) - 1 for name, options in form.decisions.items()}
    kept = {element.name for element in form.elements if isinstance(element, Depth)}
    heads = {e.name for e in form.elements if isinstance(e, Width) and e.channels.heads}
    yield dict.fromkeys(last, 0), False
    yield {name: last[name] if name in kept else 0 for name in last}, True
    yield {name: len(options) // 2 for name, options in form.decisions.items()}, False
    if len(last) > 1:
        yield {name: last[name] if name in kept or number % 2 else 0 for number, name in enumerate(last)}, False
    for few in (True, False) if heads else ():
        yield {name: 0 if name not in kept and (name in heads) == few else last[name] for name in last}, False


def _where(error: Exception, network: nn.Module, form: Form) -> str:
    """Path of the innermost module that was running."""
    paths, found = {id(module): path for path, module in network.named_modules()}, ""
    step = error.__traceback__
    while step is not None:
        found = paths.get(id(step.tb_frame.f_locals.get("self")), found)
        step = step.tb_next
    for block in sorted(form.leavable, key=len):
        found = f"{block}{found[len(block) + 5 :]}" if f"{found}.".startswith(f"{block}.kept.") else found
    return found
