"""Our scores of NAS-Bench-201's cells rank as those that others computed; benchmarks/proxies.py has more cells."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lightning_nas.proxies.logsynflow import logsynflow
from lightning_nas.proxies.naswot import naswot
from lightning_nas.proxies.synflow import synflow
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.training.seeding import seeded
from lightning_nas.truth.nasbench201 import table_file

CELLS = 24


def test_synflow_logsynflow_and_naswot_rank_cells_as_published_scores_do() -> None:
    """Fresh weights and other images, so not the same numbers: rank correlation above 0.9 on a fixed draw of cells."""
    file = table_file(None)
    if file is None or not Path(file.parent, "nasbench201_zerocost.npz").is_file():
        pytest.skip("needs nasbench201_zerocost.npz in the folder $LIGHTNING_NAS_DATA")
    cells = np.random.default_rng(0).permutation(15625)[:CELLS]
    with (
        np.load(file, allow_pickle=False) as table,
        np.load(file.parent / "nasbench201_zerocost.npz", allow_pickle=False) as known,
        np.load(file.parent / "cifar10_sub_4k_1k.npz", allow_pickle=False) as images,
    ):
        names = table["arch"][cells].tolist()
        columns = {name: known[f"c10_{name}"][cells] for name in ("log10_synflow", "logsynflow", "naswot")}
        x = torch.tensor(images["x_train"][:16]).permute(0, 3, 1, 2).float()
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    space, found = NASBench201Space(), []
    for row, name in zip(cells.tolist(), names, strict=True):
        with seeded(0, "cell", row):
            network = space.network(space.from_string(name))
        found.append((synflow(network, x), logsynflow(network, x), naswot(network, x)))
    for (name, theirs), ours in zip(columns.items(), np.array(found).T, strict=True):
        both = np.isfinite(theirs) & np.isfinite(ours)
        assert both.sum() > CELLS - 5, name
        assert spearmanr(ours[both], theirs[both]).statistic > 0.9, name
