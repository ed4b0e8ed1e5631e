"""Segmentation: its loss and metrics against other libraries and by brute force."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score
from torch import Tensor
from torch.nn import functional as F

from lightning_nas.errors import ConfigError, InputError
from lightning_nas.tasks.description import describe, rebuilt
from lightning_nas.tasks.segmentation import Segmentation, resized


def drawn(ignored: int = 255) -> tuple[Tensor, Tensor]:
    """Logits (6, 4, 3, 5) and masks (6, 6, 10) of which a fifth is ignored."""
    rng = torch.Generator().manual_seed(0)
    masks = torch.randint(4, (6, 6, 10), generator=rng)
    masks[torch.rand(masks.shape, generator=rng) < 0.2] = ignored
    return torch.randn(6, 4, 3, 5, generator=rng), masks


@pytest.mark.parametrize("corners", [False, True])
def test_figures_over_batches_are_those_of_scikit_learn(corners: bool) -> None:
    logits, masks = drawn()
    metrics = Segmentation(align_corners=corners).metrics(4)
    for pair in zip(logits.split(2), masks.split(2), strict=True):
        metrics.update(*pair)
    found = metrics.compute()
    said = F.interpolate(logits, (6, 10), mode="bilinear", align_corners=corners).argmax(1)
    known = masks != 255
    assert float(found["miou"]) == pytest.approx(jaccard_score(masks[known], said[known], average="macro"), abs=1e-6)
    assert float(found["pixel_acc"]) == pytest.approx(float((masks == said)[known].float().mean()), abs=1e-6)


def test_a_class_to_ignore_counts_in_neither_loss_nor_metrics() -> None:
    logits, masks = drawn(ignored=3)
    masks[0, 0, 0] = 255
    task, known = Segmentation(ignore_index=3), (masks != 3) & (masks != 255)
    metrics = task.metrics(4)
    metrics.update(logits, masks)
    said = resized(logits, (6, 10)).argmax(1)
    wanted = jaccard_score(masks[known], said[known], average=None, labels=[0, 1, 2]).mean()
    assert float(metrics.compute()["miou"]) == pytest.approx(wanted, abs=1e-6)
    losses = F.cross_entropy(resized(logits, (6, 10)), masks.masked_fill(~known, 0), reduction="none")
    assert float(task.loss(logits, masks)) == pytest.approx(float(losses[known].mean()), rel=1e-5)


def test_the_loss_is_torchs_weighted_cross_entropy() -> None:
    logits, masks = drawn()
    weights = [0.5, 1.0, 2.0, 4.0]
    wanted = F.cross_entropy(resized(logits, (6, 10)), masks, torch.tensor(weights), ignore_index=255)
    assert float(Segmentation(class_weights=weights).loss(logits, masks)) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_hardest_pixels_are_those_of_a_sorted_list(share: float) -> None:
    logits, masks = drawn()
    losses = F.cross_entropy(resized(logits, (6, 10)), masks, ignore_index=255, reduction="none")[masks != 255]
    hardest = sorted(losses.tolist(), reverse=True)[: round(share * len(losses))]
    found = Segmentation(hardest=share).loss(logits, masks)
    assert float(found) == pytest.approx(float(np.mean(hardest)), rel=1e-5)


def test_a_batch_without_a_labelled_pixel_teaches_nothing() -> None:
    logits = drawn()[0].requires_grad_()
    for task in (Segmentation(), Segmentation(class_weights=[1.0, 2.0, 3.0, 4.0], hardest=0.5)):
        loss = task.loss(logits, torch.full((6, 6, 10), 255))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert float(loss.detach()) == 0
        assert not gradient.any()


def test_gradients_are_those_of_autograd_by_differences() -> None:
    logits, masks = drawn()
    task = Segmentation(class_weights=[0.5, 1.0, 2.0, 4.0])
    assert torch.autograd.gradcheck(lambda x: task.loss(x, masks[:2]), logits[:2].double().requires_grad_())


def test_outputs_and_weights_that_do_not_fit_are_refused() -> None:
    logits, masks = drawn()
    with pytest.raises(InputError, match=r"gives \(6, 4\) for masks \(6, 6, 10\)"):
        Segmentation().loss(logits.mean((2, 3)), masks)
    with pytest.raises(InputError, match="has 3 values, but there are 4 classes"):
        Segmentation(class_weights=[1.0, 2.0, 3.0]).loss(logits, masks)
    for wrong in ({"hardest": 0.0}, {"ignore_index": 256}, {"class_weights": []}, {"class_weights": [0.0, 1.0]}):
        with pytest.raises(ConfigError):
            Segmentation(**wrong)


def test_a_network_of_no_numbers_has_the_score_0() -> None:
    assert Segmentation().reward(math.nan) == 0


def test_its_description_is_read_back() -> None:
    task = Segmentation(class_weights=[1.0, 2.5], hardest=0.25)
    again = rebuilt(describe(task))
    assert vars(again) == vars(task)
