"""Names of the smallest, the middle and the largest architecture of spaces whose networks are parts of one."""

import torch

from lightning_nas.experiment.comparison.baselines import largest
from lightning_nas.experiment.run import Run
from lightning_nas.latency.macs import count_params
from lightning_nas.spaces.elastic.ofa_mbv3 import OFAMobileNetV3Space


def test_an_elastic_space_has_architectures_by_size() -> None:
    space = OFAMobileNetV3Space(input_shape=(1, 8, 8), num_classes=10)
    run = Run.__new__(Run)  # of which the space is enough
    run.space = space
    sizes = [count_params(space.network(run.given(name))) for name in ("smallest", "middle", "largest")]
    assert sizes == sorted(sizes)
    drawn = [count_params(space.network(a)) for a in space.different(20, torch.Generator().manual_seed(0))]
    assert sizes[0] <= min(drawn)
    assert max(drawn) <= sizes[2]
    assert largest(space, "macs") == run.given("largest")
