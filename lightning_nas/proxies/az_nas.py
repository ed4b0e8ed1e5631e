"""AZ-NAS (Lee and Ham, CVPR 2024, arXiv:2403.19232): four scores of a network, and the sum of their log ranks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.errors import InputError
from lightning_nas.ops.counts import count_macs
from lightning_nas.proxies.base import copied, placed, weighted_layers


class AZScores(NamedTuple):
    """The four scores of a network, each the higher the better."""

    expressivity: float
    progressivity: float
    trainability: float
    complexity: float


def az_nas(network: nn.Module, x: Tensor, rng: torch.Generator) -> AZScores:
    r"""Four scores from the features :math:`f_1, f_2, \dots` of a network's blocks on random images.

    .. math:: E = \sum_l E_l, \quad E_l = -\sum_i p_{l,i} \log p_{l,i}, \qquad P = \min_l (E_{l+1} - E_l), \qquad
              T = \operatorname{mean}_l \left(2 - \sigma_l - \frac{1}{\sigma_l}\right), \qquad C = \mathrm{MACs}

    :math:`p_l` are the eigenvalues of the channels' covariance as shares of their sum; :math:`\sigma_l` is the spectral
    norm of an estimate of the Jacobian of block l from gradients that begin as random signs.

    The blocks are the members of the longest ``ModuleList`` or ``Sequential`` of the network, each of which gives
    features (N, C, H, W).

    Source: Lee and Ham, CVPR 2024, arXiv:2403.19232, section 3. Deviation: the blocks are found by that rule; the
    authors write them down for each space.

    Args:
        network: with blocks; its weights are drawn anew (He et al.'s normal distribution).
        x: images (N, C, H, W), of which only the shape matters.
        rng: of weights, images and signs.

    Returns:
        A trainability of minus infinity for a network in which a block is the identity.

    Raises:
        InputError: fewer than two blocks give features.
    """
    with copied(network) as made:
        for layer in weighted_layers(made):
            fan_in = layer.weight[0].numel()
            layer.weight.data.copy_(torch.randn(layer.weight.shape, generator=rng) * (2 / fan_in) ** 0.5)
            if layer.bias is not None:
                layer.bias.data.zero_()
        features = _features(made, placed(network, torch.randn(x.shape, generator=rng)))
        entropies = [_entropy(f.detach()) for f in features]
        trained = [_trainability(a, b, rng) for a, b in pairwise(features)]
    steps = [after - before for before, after in pairwise(entropies)]
    macs = count_macs(network, tuple(x.shape[1:]), x.dtype)
    return AZScores(sum(entropies), min(steps), sum(trained) / len(trained), float(macs))


def log_rank_sum(scores: Tensor) -> Tensor:
    r"""One score of several, for networks that are ranked together.

    .. math:: \sum_k \log \frac{\operatorname{rank}(s_{nk})}{n}

    The worst has rank 1, equal scores have the mean of their ranks, and NaN counts as minus infinity.

    Args:
        scores: (networks, scores), each the higher the better.

    Returns:
        (networks,) of float64, at most 0.

    Example:
        >>> log_rank_sum(torch.tensor([[1.0, 5.0], [2.0, 7.0]])).tolist()  # 2 log(1/2) and 0
        [-1.386..., 0.0]
    """
    known = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    below = (known[:, None] > known[None]).sum(1, dtype=torch.float64)
    equal = (known[:, None] == known[None]).sum(1, dtype=torch.float64)
    return ((below + (equal + 1) / 2) / len(scores)).log().sum(1)


def _features(network: nn.Module, images: Tensor) -> list[Tensor]:
    lists = [part for part in network.modules() if isinstance(part, (nn.ModuleList, nn.Sequential))]
    blocks = list(max(lists, key=len, default=nn.ModuleList()))
    seen: list[Tensor] = []

    def note(layer: nn.Module, inputs: Any, output: Any) -> Tensor | None:
        if not isinstance(output, Tensor) or output.dim() != 4:
            return None
        seen.append(output)
        return output.clone()  # what follows may write into it

    for block in blocks:
        block.register_forward_hook(note)
    network(images)
    if len(seen) < 2:
        raise InputError(f"az_nas: {type(network).__name__} has no list of blocks with features (N, C, H, W)")
    return seen


def _entropy(features: Tensor) -> float:
    """Entropy of the principal components of the channels, (N, C, H, W)."""
    rows = features.movedim(1, -1).flatten(0, 2).double()
    rows = rows - rows.mean(0)
    values = torch.linalg.eigvalsh(rows.T @ rows / len(rows))
    shares = values / values.sum()
    return -float((shares * (shares + 1e-8).log()).sum())


def _trainability(before: Tensor, after: Tensor, rng: torch.Generator) -> float:
    signs = torch.randint(2, after.shape, generator=rng).to(after) * 2 - 1
    [back] = torch.autograd.grad(after, [before], signs, retain_graph=True, allow_unused=True, materialize_grads=True)
    if back.shape == signs.shape and back.equal(signs):
        return -torch.inf
    if (stride := -(-back.shape[-1] // signs.shape[-1])) > 1:  # each step of the output sees stride x stride pixels
        short = [stride * signs.shape[side] - back.shape[side] for side in (-1, -2)]
        back = F.pixel_unshuffle(F.pad(back, (0, short[0], 0, short[1])), stride)
    rows_in, rows_out = (part.movedim(1, -1).flatten(0, 2).double() for part in (back, signs))
    largest = float(torch.linalg.matrix_norm(rows_in.T @ rows_out / len(rows_out), 2))
    return 2 - largest - 1 / (largest + 1e-6)
