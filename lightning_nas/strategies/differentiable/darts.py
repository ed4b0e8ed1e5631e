r"""DARTS: differentiable architecture search (Liu, Simonyan, Yang, ICLR 2019, arXiv:1806.09055).

Every edge is the softmax-weighted sum of all its operations; the architecture parameters :math:`\alpha` minimise the
loss on one part of the training data, the weights on the other, in turns of one batch each, :math:`\alpha` first.

``order`` is the approximation of the gradient of :math:`\alpha` (section 2.3):

- "first": :math:`\nabla_\alpha L_{val}(w, \alpha)` with constant weights.
- "second": through one virtual step of the weights on the batch of the weights part, with the finite difference of the
  paper for the mixed derivative. The virtual step is the one that the optimiser would take on this batch: with
  momentum, weight decay and clipping.
- "exact": the same with the mixed derivative by double differentiation.

Differs from the paper: nothing in the method. :math:`\alpha` starts at 1e-3 N(0, 1), as in the authors' code (the paper
says zero). The second order looks through the step that the optimiser would take, with its clipping, and
differentiates that step as it is taken. The authors' code does otherwise. For images it clips the real step and not the
virtual one. For text it clips both (norm 0.25 at a rate of 20) but takes the factor of the clipping as a constant,
clips the gradient of the validation loss too, and loses the moved embedding: the decoder shares its matrix and is
loaded after it with the old values. As in that code, the pass on the validation batch after the virtual step leaves the
running statistics of batch norm as they are, and the passes on the training batch move them.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Unpack

import torch
from annotated_types import Interval
from torch import Tensor
from torch.optim import SGD

from lightning_nas.errors import ConfigError
from lightning_nas.functional.hypergradient import VirtualStep, unrolled_gradient
from lightning_nas.functional.smoothing import radius_of, random_rows, worst_rows
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import DifferentiableSearch
from lightning_nas.strategies.options import SoftmaxOptions
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.recalibrate import kept_buffers


class DARTS(DifferentiableSearch):
    r"""Differentiable architecture search (DARTS).

    .. math:: \min_\alpha L_{val}(w^*(\alpha), \alpha) \quad \text{with} \quad
              w^*(\alpha) = \arg\min_w L_{train}(w, \alpha), \qquad
              \bar{o}(x) = \sum_o \mathrm{softmax}(\alpha)_o \, o(x)

    The logits :math:`\alpha` have the shape (choices, options) in each group of choices. Weights and logits take one
    step each on every batch, the logits first.

    Source: Liu, Simonyan and Yang, ICLR 2019, arXiv:1806.09055, sections 2.2 and 2.3. Deviations: the logits start at
    1e-3 N(0, 1) as in the authors' code, where the paper has zero. The virtual step is clipped like the real one and
    differentiated as it is taken; the authors' code does not clip it for images, and takes the factor as a constant for
    text.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging and for a penalty; None measures it where a penalty needs it.
        order: gradient of the logits. "first": the weights are constant. "second": through one virtual step of the
            weights, with the finite difference of the paper. "exact": the same by double differentiation. The virtual
            step has ``weights_clip`` and the momentum and decay of ``weights_optimizer``, which must be SGD; it looks
            at one batch also where ``accumulate`` is more than 1.
        perturb: weights of the options in the weights steps, as in SmoothDARTS (Chen and Hsieh, ICML 2020,
            arXiv:2002.05283): the softmax itself ("none"), with uniform noise on each entry ("random"), or where seven
            steps of ascent on the training loss lead ("adversarial", nine more passes a step).
        perturb_radius: largest change of an entry after the last epoch; 0.03 in the first one, linear between.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.

    Raises:
        ConfigError: "second" or "exact" with ``alternate="epoch"``, because the virtual step needs both batches, with
            ``perturb``, or, at the start of the fit, with another optimiser of the weights than SGD.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = DARTS(ToySpace(), arch_warmup_epochs=0)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 4, 'architecture': 4}, 'toy')
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        order: Literal["first", "second", "exact"] = "first",
        perturb: Literal["none", "random", "adversarial"] = "none",
        perturb_radius: Annotated[float, Interval(gt=0, le=1)] = 0.3,
        **options: Unpack[SoftmaxOptions],
    ) -> None:
        super().__init__(space, task, table, **options)
        if order != "first" and self.alternate != "batch":
            raise ConfigError(f"strategy.order={order} needs strategy.alternate=batch: it looks at two batches at once")
        if perturb != "none" and order != "first":
            raise ConfigError(
                f"strategy.perturb={perturb} needs strategy.order=first: {order} looks through other steps"
            )
        self.order, self.perturb, self.perturb_radius = order, perturb, perturb_radius

    def gates(self, generator: torch.Generator) -> Gates:
        return Gates.soft({group: theta.softmax(-1) for group, theta in self.theta.items()})

    def weights_loss(self, batch: Batch) -> Tensor:
        if self.perturb == "none":
            return super().weights_loss(batch)
        rows = {group: theta.detach().softmax(-1) for group, theta in self.theta.items()}
        radius = radius_of(self.perturb_radius, self.current_epoch, self.epochs)
        draw = self.generator("perturb")
        if self.perturb == "random":
            return self.task_loss(batch, Gates.soft(random_rows(rows, radius, draw)))
        training = self.supernet.training
        self.supernet.eval()
        found = worst_rows(rows, radius, draw, lambda near: self.held_out_loss(batch, Gates.soft(near)))
        self.supernet.train(training)
        return self.task_loss(batch, Gates.soft(found))

    def arch_backward(self, batch: Batch, weights_batch: Batch | None) -> Tensor:
        if self.order == "first" or weights_batch is None:  # the weights part is the shorter one
            return super().arch_backward(batch, weights_batch)
        weights, arch, scale = self.weight_parameters(), self.arch_parameters(), self._loss_scale()
        for weight in weights:
            weight.requires_grad_(True)
        loss, gradients = unrolled_gradient(
            lambda: self.weights_loss(weights_batch),
            lambda: self._loss_after_the_step(batch),
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

    def _loss_after_the_step(self, batch: Batch) -> Tensor:
        """The architecture loss; the running statistics of the supernet stay as they are."""
        with kept_buffers(self.supernet):
            return self.arch_loss(batch)

    def configure_optimizers(self) -> Any:
        """The optimisers of every search; before the first step it is checked that the virtual step can be taken."""
        optimizers, schedules = super().configure_optimizers()
        made = optimizers[0]
        if self.order != "first" and (not isinstance(made, SGD) or made.defaults["maximize"]):
            raise ConfigError(
                f"strategy.order={self.order} looks through a descent step of SGD, not of {type(made).__name__}"
                f"{'(maximize=True)' if isinstance(made, SGD) else ''}; "
                "use strategy.weights_optimizer._target_=torch.optim.SGD or strategy.order=first"
            )
        return optimizers, schedules

    def _virtual_step(self) -> VirtualStep:
        """The next step of the optimiser of the weights."""
        optimizer = self._optimizer("weights").optimizer
        [group] = optimizer.param_groups
        buffers = [optimizer.state[weight].get("momentum_buffer") for weight in group["params"]]
        return VirtualStep(
            float(group["lr"]),
            group["momentum"],
            group["weight_decay"],
            buffers,
            clip=self.trainings["weights"].clip,
            dampening=group["dampening"],
            nesterov=group["nesterov"],
        )

    def _loss_scale(self) -> float:
        """Factor of the loss under fp16, which keeps gradients from vanishing; the optimiser step divides by it."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.scale(torch.ones((), device=self.device)))

    def _averaged(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The mean over all processes; these gradients do not pass through DistributedDataParallel."""
        if self.trainer.world_size == 1:
            return list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        pieces = torch.split(flat / self.trainer.world_size, [tensor.numel() for tensor in tensors])
        return [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]
