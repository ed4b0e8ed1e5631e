"""Scores by name, of networks that are ranked together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_nas.proxies.az_nas import az_nas, log_rank_sum
from lightning_nas.proxies.base import Loss, Proxy
from lightning_nas.proxies.fisher import Fisher
from lightning_nas.proxies.grad_norm import GradNorm
from lightning_nas.proxies.grasp import Grasp
from lightning_nas.proxies.jacob_cov import JacobCov
from lightning_nas.proxies.logsynflow import LogSynflow
from lightning_nas.proxies.naswot import Naswot
from lightning_nas.proxies.plain import Plain
from lightning_nas.proxies.size import Depth, Macs, Params
from lightning_nas.proxies.snip import Snip
from lightning_nas.proxies.swap import Swap
from lightning_nas.proxies.synflow import Synflow
from lightning_nas.proxies.zen import Zen
from lightning_nas.proxies.zico import Zico
from lightning_nas.training.seeding import generator

ProxyName = Literal[
    "params",
    "macs",
    "depth",
    "synflow",
    "logsynflow",
    "naswot",
    "jacob_cov",
    "snip",
    "grasp",
    "fisher",
    "grad_norm",
    "plain",
    "zico",
    "zen",
    "swap",
    "az_nas",
]
"""Names of the group ``proxy``, and ``az_nas``."""

OF_NETWORKS = ("params", "macs", "depth", "synflow", "logsynflow")
"""Names of the scores that do not look at images."""

NAMED: dict[str, Callable[[], Proxy]] = {
    "params": Params,
    "macs": Macs,
    "depth": Depth,
    "synflow": Synflow,
    "logsynflow": LogSynflow,
    "naswot": Naswot,
    "jacob_cov": JacobCov,
    "snip": Snip,
    "grasp": Grasp,
    "fisher": Fisher,
    "grad_norm": GradNorm,
    "plain": Plain,
    "zico": Zico,
    "zen": Zen,
    "swap": Swap,
}


def scores(
    name: ProxyName, networks: Iterable[nn.Module], batch: tuple[Tensor, Tensor], loss: Loss, seed: int
) -> list[float]:
    """The score of each network; that of ``az_nas`` is the sum of its log ranks among these.

    Args:
        name: of the score.
        networks: they are left as they were; each is looked at once, so they may be made one by one.
        batch: images (N, C, H, W) and their targets.
        loss: of the task.
        seed: of what a score draws, the same for each network.

    Returns:
        Minus infinity where a score is not finite.

    Example:
        >>> batch = torch.zeros(1, 4), torch.zeros(1)
        >>> scores("params", [nn.Linear(4, 2), nn.Linear(4, 3)], batch, nn.MSELoss(), seed=0)
        [10.0, 15.0]
    """
    if name == "az_nas":
        four = [az_nas(network, batch[0], generator(seed, name)) for network in networks]
        return [float(score) for score in log_rank_sum(torch.tensor(four, dtype=torch.float64))]
    proxy = NAMED[name]()
    found = [proxy(network, batch, loss, generator(seed, name)) for network in networks]
    return [score if math.isfinite(score) else -math.inf for score in found]
