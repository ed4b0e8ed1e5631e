r"""DARTS: differentiable architecture search (Liu, Simonyan, Yang, ICLR 2019, arXiv:1806.09055).

Every edge is the softmax-weighted sum of all its operations; the architecture parameters :math:`\alpha` minimise the
loss on one part of the training data, the weights on the other, in turns of one batch each, :math:`\alpha` first.

``order`` says what the gradient of :math:`\alpha` knows of the weights that follow it (section 2.3):

- "first": nothing, :math:`\nabla_\alpha L_{val}(w, \alpha)`.
- "second": one virtual step of the weights on the weights part's batch, its mixed derivative by the paper's finite
  difference; momentum and weight decay are in the virtual step, as in the authors' code.
- "exact": the same with the mixed derivative by differentiating twice.

Differs from the paper: nothing in the method. :math:`\alpha` starts at 1e-3 N(0, 1), as in the authors' code (the paper
says zero).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import SGD

from lightning_nas.errors import ConfigError
from lightning_nas.functional.hypergradient import VirtualStep, unrolled_gradient
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import DifferentiableSearch
from lightning_nas.tasks.base import Batch, Task


class DARTS(DifferentiableSearch):
    """Softmax-weighted mixtures, bilevel.

    Args:
        space: any space with a supernet.
        task: what the network is for.
        table: cost of every operation, if it is to be shown or penalised.
        order: "first", "second" or "exact", see above.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.

    Raises:
        ConfigError: second order and turns of whole epochs: the virtual step needs both batches at once.
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        order: Literal["first", "second", "exact"] = "second",
        **options: Any,
    ) -> None:
        super().__init__(space, task, table, **options)
        if order != "first" and self.alternate != "batch":
            raise ConfigError(f"strategy.order={order} needs strategy.alternate=batch: it looks at two batches at once")
        self.order = order

    def gates(self, generator: torch.Generator) -> Gates:
        return Gates.soft({group: theta.softmax(-1) for group, theta in self.theta.items()})

    def arch_backward(self, batch: Batch, weights_batch: Batch | None) -> Tensor:
        if self.order == "first" or weights_batch is None:  # the weights part is shorter than the other
            return super().arch_backward(batch, weights_batch)
        weights, arch, scale = self.weight_parameters(), self.arch_parameters(), self._loss_scale()
        for weight in weights:
            weight.requires_grad_(True)
        loss, gradients = unrolled_gradient(
            lambda: self.weights_loss(weights_batch),
            lambda: self.arch_loss(batch),
            weights,
            arch,
            self._virtual_step(),
            mixed="exact" if self.order == "exact" else "difference",
            scale=scale,
            average=self._averaged,
        )
        for weight in weights:
            weight.requires_grad_(False)
        if scale == 1:  # under fp16 an overflow makes the scaler skip the step and scale less
            self.check_finite("arch/loss", loss)
        for parameter, gradient in zip(arch, gradients, strict=True):
            parameter.grad = gradient * scale
        return loss

    def _virtual_step(self) -> VirtualStep:
        """The step the weights' optimiser would take now."""
        optimizer = self._optimizer("weights").optimizer
        if not isinstance(optimizer, SGD):
            raise ConfigError(
                f"strategy.order={self.order} looks through a step of SGD, not of {type(optimizer).__name__}; "
                "use strategy.weights_optimizer._target_=torch.optim.SGD or strategy.order=first"
            )
        [group] = optimizer.param_groups
        buffers = [optimizer.state[weight].get("momentum_buffer") for weight in group["params"]]
        return VirtualStep(group["lr"], group["momentum"], group["weight_decay"], buffers)

    def _loss_scale(self) -> float:
        """What fp16 multiplies losses by, so that gradients do not vanish; the optimiser's step divides it out."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.scale(torch.ones((), device=self.device)))

    def _averaged(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The mean over all processes: these gradients do not pass through Lightning's wrapper."""
        if self.trainer.world_size == 1:
            return list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        pieces = torch.split(flat / self.trainer.world_size, [tensor.numel() for tensor in tensors])
        return [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]
