"""The published networks of ENAS have the sizes that their authors' code gives them."""

from collections import Counter

import pytest
import torch

from lightning_nas import zoo
from lightning_nas.latency.macs import count_macs, count_params

# parameters, those of the auxiliary classifier, multiply-adds
GOLDEN = {
    "enas_micro": (3_894_372, 494_848, 620_907_552),
    "enas_cell": (4_020_166, 494_858, 622_142_496),
    "enas_macro": (42_559_392, 0, 5_646_094_080),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_networks_of_enas_have_the_size_of_the_authors_code(name: str) -> None:
    params, auxiliary, macs = GOLDEN[name]
    with torch.device("meta"):
        network = zoo.network(name, auxiliary=bool(auxiliary))
    assert count_params(network) == params + auxiliary
    assert count_macs(network, (3, 32, 32)) == macs
    if auxiliary:
        assert count_params(network.auxiliary) == auxiliary
        assert [logits.shape for logits in network(torch.zeros(2, 3, 32, 32, device="meta"))] == [(2, 10), (2, 10)]
    if name == "enas_micro":
        assert network.head[-1].in_features == 720


def test_the_macro_network_has_the_scripts_operations_and_connections() -> None:
    choices = dict(zoo.load("enas_macro").choices)
    counts = Counter(choices.values())
    assert (counts["yes"], counts["yes"] + counts["no"]) == (98, 276)
    numbers = {"conv_3x3": 0, "sep_conv_3x3": 1, "conv_5x5": 2, "sep_conv_5x5": 3}
    operations = " ".join(str(numbers[choices[f"layer_{k}_op"]]) for k in range(1, 25))
    assert operations == "0 3 0 2 2 3 2 2 1 0 2 0 2 1 0 2 2 2 3 3 0 3 0 0"
