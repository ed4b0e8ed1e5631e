r"""ENAS' macro search space (Pham et al., ICML 2018, arXiv:1802.03268): a whole image network.

Each of L layers has one of six operations, and may be connected to any of the tensors before the one that it works on:
:math:`6^L \cdot 2^{L (L - 1) / 2}` networks, 1.6e29 for 12 layers.

The searched network (36 channels throughout, sums of tensors) and the retrained one
(:class:`~lightning_nas.spaces.enas.macro_retrained.ENASMacroNetworks`: 96 channels and more, concatenations) differ.

Differs from the authors' code: in the search a tensor that no later layer needs is not halved, so that a path costs
what it needs; weights of options that were not drawn get no gradient instead of zeros; a pool can be retrained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

from annotated_types import Len
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.ops.mixed import Mix, plain
from lightning_nas.ranges import Layers, Side, Width
from lightning_nas.spaces.base import Keys, Operation, Supernet, WeightSharingSpace, no_auxiliary, shape_text
from lightning_nas.spaces.connections import CONNECTED
from lightning_nas.spaces.enas.macro_networks import (
    MacroForm,
    MacroNetwork,
    MacroSupernet,
    needed,
    skip_row,
)
from lightning_nas.spaces.enas.macro_retrained import ENASMacroNetworks, MacroLayers
from lightning_nas.spaces.enas.operations import MACRO, Sum, branch
from lightning_nas.spaces.gates import Gates, Joint
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images


class ENASMacroSpace(MacroLayers, WeightSharingSpace):
    r"""Macro space of ENAS (Pham et al., ICML 2018, arXiv:1802.03268, section 2.3): a whole image network.

    Each of L layers takes one of six operations (``layer_3_op``) and may be connected to every tensor before the one it
    works on (``layer_3_skip_1``: "yes" or "no"): :math:`6^L \cdot 2^{L (L - 1) / 2}` architectures, 1.6e29 of 12
    layers.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes). Gates are two groups: "operations"
    with a row for each layer, and "skips" with a row ("no", "yes") for each possible connection: that of layer 2, those
    of layer 3, ... The searched network has one width and adds tensors; the retrained one is
    :class:`~lightning_nas.spaces.enas.macro_retrained.ENASMacroNetworks`.

    Differs from the authors' code: a tensor that no later layer needs is not halved in the search, so that a path costs
    what it needs; weights of options that were not drawn get no gradient instead of zeros; a pool can be retrained.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, with H = W, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 4.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        layers: number of layers, at least 3.
        channels: channels of all layers, an even number.
        dropout: probability before the classifier.
        evaluation: (channels of the first layers, dropout) of the network that is retrained.

    Raises:
        InputError: a size out of range.

    Example:
        >>> space = ENASMacroSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('max_pool_3x3')
        ('enas_macro_small', 15, '3x3 max pooling')
        >>> import torch
        >>> space = ENASMacroSpace(image_size=8, in_channels=1, layers=3, channels=4)
        >>> a = space.sample(torch.Generator().manual_seed(0))
        >>> tuple(space.network(a)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 10)
    """

    @sized_by_images(
        small={"name": "enas_macro_small", "layers": 5, "channels": 8, "dropout": 0.0, "evaluation": (8, 0.0)},
    )
    def __init__(
        self,
        name: str = "enas_macro",
        *,
        input_shape: InputShape | None = None,
        image_size: Side = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        layers: Layers = 12,
        channels: Width = 36,
        dropout: Probability = 0.1,
        evaluation: Annotated[Sequence[NonNegativeFloat], Len(2, 2)] = (96, 0.5),
    ) -> None:
        self._settle(name, MacroForm(image_size, in_channels, num_classes, layers, channels, dropout, doubles=False))
        self._evaluation = evaluation
        self.gate_options = {"operations": MACRO, "skips": CONNECTED}
        self.gate_shapes = {
            "operations": (layers, len(MACRO)),
            "skips": (layers * (layers - 1) // 2, len(CONNECTED)),
        }

    def evaluation(self) -> ENASMacroNetworks:
        """The networks that are retrained."""
        form, (channels, dropout) = self.form, self._evaluation
        return ENASMacroNetworks(
            self.name,
            image_size=form.image_size,
            in_channels=form.in_channels,
            num_classes=form.num_classes,
            layers=form.layers,
            channels=int(channels),
            dropout=dropout,
        )

    # -- networks -----------------------------------------------------------------------------------------------

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> MacroNetwork:
        """The network of the search with the chosen operations and connections alone; no auxiliary classifier."""
        no_auxiliary(self, auxiliary)
        form, (options, skips) = self.form, self.chosen(architecture)
        layers = [branch(option, form.channels, form.channels) for option in options]
        merges = [Sum(form.channels) for _ in layers[1:]]
        halved = {pool: needed(skips, pool) for pool in form.pools}
        return MacroNetwork(form, layers, merges, skips, halved, form.make_head(num_classes))

    def supernet(self, mix: Mix | None = None) -> MacroSupernet:
        """The network whose layers mix all operations and may be connected to all earlier tensors."""
        return MacroSupernet(self.form, mix or plain)

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows: the operations, and whether there are connections."""
        options, skips = self.chosen(architecture)
        connected = [int(j in taken) for k, taken in enumerate(skips, start=1) for j in range(k - 1)]
        return Gates.one_hot({"operations": [MACRO.index(o) for o in options], "skips": connected}, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """Take the most probable operation of each layer and answer to each connection; ties go to the first."""
        best = {group: rows.argmax(-1).tolist() for group, rows in probabilities.items()}
        choices = {}
        for k in range(1, self.form.layers + 1):
            choices[f"layer_{k}_op"] = MACRO[best["operations"][k - 1]]
            choices |= {f"layer_{k}_skip_{j}": CONNECTED[best["skips"][skip_row(k, j)]] for j in range(k - 1)}
        return Architecture.of(self.name, choices)

    def extract(self, supernet: Supernet, architecture: Architecture) -> MacroNetwork:
        """Build the network of the chosen operations, with copies of weights and batch-norm statistics."""
        network = self.network(architecture).to(next(supernet.parameters()))
        shared, (options, _) = supernet.state_dict(), self.chosen(architecture)
        state = {}
        for name in network.state_dict():
            part, *path = name.split(".", 2)
            own = part == "layers"
            state[name] = shared[f"layers.{path[0]}.{options[int(path[0])]}.{path[1]}" if own else name]
        network.load_state_dict(state)
        return network

    # -- cost ---------------------------------------------------------------------------------------------------

    def _key(self, option: str, layer: int) -> str:
        return f"{option} {shape_text(self.form.shape(layer))}"

    def _fixed(self) -> list[tuple[str, Operation]]:
        """Stem, batch norm of every sum, halving of the input of the next layer, classifier."""
        form = self.form
        norms = [
            (self._key("sum", k), Operation(partial(nn.BatchNorm2d, form.channels), form.shape(k)))
            for k in range(2, form.layers + 1)
        ]
        return [form.stem(), *norms, *map(form.halving, form.pools), form.head()]

    def operations(self) -> dict[str, Operation]:
        """Fixed parts, and every operation at every size."""
        build = {option: partial(branch, option, self.form.channels, self.form.channels) for option in MACRO}
        return dict(self._fixed()) | {
            self._key(option, k): Operation(build[option], self.form.shape(k))
            for k in range(1, self.form.layers + 1)
            for option in MACRO
        }

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Fixed parts, one operation a layer, and a halving for every other tensor that is needed later."""
        options, skips = self.chosen(architecture)
        keys = [key for key, _ in self._fixed()]
        keys += [self._key(option, k) for k, option in enumerate(options, start=1)]
        for pool in self.form.pools:
            keys += [self.form.halving(pool)[0]] * (len(needed(skips, pool)) - 1)
        return tuple(keys)

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """A connection is a sum, which costs nothing by itself; see :meth:`joint_keys`."""
        layers = range(1, self.form.layers + 1)
        rows = tuple(tuple((self._key(option, k),) for option in MACRO) for k in layers)
        free: tuple[Keys, ...] = ((),) * len(CONNECTED)
        return tuple(key for key, _ in self._fixed()), {
            "operations": rows,
            "skips": (free,) * self.gate_shapes["skips"][0],
        }

    def joint_keys(self) -> tuple[Joint, ...]:
        """A tensor is halved where any later layer is connected to it."""
        made = []
        for pool in self.form.pools:
            for j in range(pool):
                later = range(pool + 1, self.form.layers + 1)
                gates = tuple(("skips", skip_row(k, j), 1) for k in later)
                made.append(Joint((self.form.halving(pool)[0],), gates, "any"))
        return tuple(made)
