"""Published networks compute what timm's do."""

import torch
from torch import nn

from lightning_nas import zoo


def computes_what_timms_does(name: str, theirs: nn.Module) -> None:
    """The network called ``name``, with the weights of ``theirs``, gives the same logits in evaluation mode.

    Both list their parts in the order of computation, but name them differently.
    """
    ours, theirs = zoo.network(name, num_classes=1000).eval(), theirs.eval()
    names = [k for k in theirs.state_dict() if not k.endswith("num_batches_tracked")]
    values = (theirs.state_dict()[k] for k in names)
    filled = {k: next(values) for k in ours.state_dict() if not k.endswith("num_batches_tracked")}
    assert next(values, None) is None
    ours.load_state_dict(filled, strict=False)
    for norm in (m for network in (ours, theirs) for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eps = 1e-5
    x = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(x)
        torch.testing.assert_close(ours(x), expected, atol=1e-4 * expected.abs().max().item(), rtol=1e-3)
