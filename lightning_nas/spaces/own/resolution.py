"""The sizes of images at which a module is searched, as a rule names them and the module's code allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import torch
from torch import nn

from lightning_nas.errors import InputError, shown
from lightning_nas.ops.outputs import logits_of
from lightning_nas.spaces.own.inputs import Inputs
from lightning_nas.spaces.own.reading import BATCH, copied
from lightning_nas.spaces.own.resizing import Resolution, Size
from lightning_nas.spaces.own.rules import Rule, Widths, widths
from lightning_nas.spaces.own.shapes import Shapes


def find_resolution(
    module: nn.Module, inputs: Inputs, rules: Sequence[Rule]
) -> tuple[Resolution | None, dict[str, str]]:
    """The sizes that rules name and at which a module runs, and for each of the others why it does not.

    Args:
        module: the module; it is not changed.
        inputs: of the module.
        rules: the last that names sizes counts.

    Raises:
        InputError: a size is larger than the example, or none is left but that of the example.
    """
    told = next((rule.resolution for rule in reversed(rules) if rule.resolution is not None), None)
    if told is None:
        return None, {}
    example = inputs.tensors[0]
    if not inputs.is_plain or example.dim() != 4 or not example.is_floating_point():
        shapes = " and ".join(str(tuple(x.shape)) for x in inputs.tensors)
        raise InputError(f"a rule's resolution needs images (N, C, H, W) as the only input; the example has {shapes}")
    whole = (example.shape[2], example.shape[3])
    sizes = sorted({*_sizes(told, whole)} - {whole}, key=lambda size: (size[0] * size[1], size))
    if large := [size for size in sizes if size[0] > whole[0] or size[1] > whole[1]]:
        raise InputError(
            f"a rule's resolution {_text(large[0])} is above that of the example; legal: up to {_text(whole)}"
        )
    lost = dict[Size, str]()
    if (outputs := _outputs(module, inputs)) is not None:
        device, wanted = outputs
        for size in sizes:
            if why := _misfit(module, Inputs(example.new_empty(*example.shape[:2], *size)), device, wanted):
                lost[size] = why
    kept = [size for size in sizes if size not in lost]
    if not kept:
        raise InputError(
            f"a rule's resolution can only be {_text(whole)}, that of the example: "
            + ("; ".join(f"{_text(size)}: {why}" for size, why in lost.items()) or "the rule names no other")
        )
    reasons = {_text(size): why for size, why in lost.items()}
    return Resolution(tuple(map(_text, [*kept, whole])), (*kept, None)), reasons


def _sizes(told: Widths | tuple[Size, ...], whole: Size) -> Iterator[Size]:
    """The sizes of a rule; ratios are of each side, rounded as those of widths."""
    if isinstance(told, Widths):
        for ratio in told.ratios:
            high, wide = (widths(side, 1, (ratio,), told.divisor)[0] for side in whole)
            yield high, wide
    else:
        yield from told


def _text(size: Size) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _outputs(module: nn.Module, inputs: Inputs) -> tuple[torch.device, tuple[int, ...]] | None:
    """The device on which a module runs, and the shape of its output; None if it runs on none."""
    for device in (torch.device("meta"), torch.device("cpu")):
        with suppress(Exception):  # code may need values; what else it says, reading tells
            return device, _shape(module, inputs, device, training=False)
    return None


def _misfit(module: nn.Module, inputs: Inputs, device: torch.device, wanted: tuple[int, ...]) -> str:
    """Why a module does not run on some inputs as it does on others; empty if it does."""
    try:
        for training in (False, True):
            if (came := _shape(module, inputs, device, training=training)) != wanted:
                return f"the output has the shape {came[1:]}, and {wanted[1:]} for the example"
    except Exception as reason:  # noqa: BLE001  any code of the user's may refuse a size
        said = shown(f"{type(reason).__name__}: {reason}", 160)
        return f"the module's code needs another size, as a linear layer over flattened images does: {said}"
    return ""


def _shape(module: nn.Module, inputs: Inputs, device: torch.device, *, training: bool) -> tuple[int, ...]:
    ran = copied(module, device).train(training)
    with torch.no_grad(), Shapes():
        return tuple(logits_of(ran(inputs.batch(BATCH if device.type == "meta" else 2, device))).shape)
