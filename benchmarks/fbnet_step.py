"""One weights step and one architecture step of FBNet's supernet: AnnaAraslanova/FBNet against both of our forms.

    python benchmarks/fbnet_step.py PATH_TO_PEER [--size 224 --batch 2 --threads 2 --repeats 5]

PATH_TO_PEER is a checkout of https://github.com/AnnaAraslanova/FBNet. All contestants have 22 layers of 9 blocks, a
last convolution of 1504 channels and 1,000 classes; they take the same images, the optimisers of the peer's
configuration and its loss, cross-entropy times a penalty on the expected latency (ours as in the paper). Their steps
alternate in one process, so that a busy machine hurts all alike.

The peer runs as its training loop does: both steps compute the gradients of all weights and of theta.
"""

import argparse
import contextlib
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from turns import Batch, Step, measure, print_machine, print_table

from lightning_nas.spaces.chains.fbnet import GROUP, FBNetSpace
from lightning_nas.spaces.gates import Gates

ALPHA, BETA, TEMPERATURE = 0.2, 0.6, 5.0


def optimizers(weights: list[nn.Parameter], theta: list[nn.Parameter]) -> tuple[torch.optim.SGD, torch.optim.Adam]:
    """Those of the peer's configuration."""
    sgd = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=1e-4)
    return sgd, torch.optim.Adam(theta, lr=0.01, weight_decay=5e-4)


def peer_steps(path: Path, size: int) -> dict[str, Step]:
    """The peer's model, loss and latency table, stepped as in its ``TrainerSupernet._training_step``."""
    sys.path.insert(0, str(path))
    with contextlib.chdir(path):  # its table is read from a path relative to the checkout
        from general_functions.utils import AverageMeter
        from supernet_functions.lookup_table_builder import LookUpTable
        from supernet_functions.model_supernet import FBNet_Stochastic_SuperNet, SupernetLoss

        model = FBNet_Stochastic_SuperNet(LookUpTable(calulate_latency=False), cnt_classes=1000)
    if size != 224:
        model.last_stages.avg_pool_k7 = nn.AdaptiveAvgPool2d(1)  # its pooling is 7x7, fit for 224 pixels only
    criterion, meters = SupernetLoss(), (AverageMeter(), AverageMeter())
    theta = [parameter for name, parameter in model.named_parameters() if "thetas" in name]
    weights = [parameter for name, parameter in model.named_parameters() if "thetas" not in name]

    def step_of(optimizer: torch.optim.Optimizer) -> Step:
        def step(batch: Batch) -> None:
            x, y = batch
            optimizer.zero_grad()
            logits, latency = model(x, TEMPERATURE, torch.tensor([[0.0]], requires_grad=True))
            criterion(logits, y, latency, *meters, len(x)).backward()
            optimizer.step()

        return step

    return dict(zip(("weights", "theta"), map(step_of, optimizers(weights, theta)), strict=True))


def our_steps(size: int, *, fused: bool) -> dict[str, Step]:
    """Our supernet; a weights step asks for weight gradients only, an architecture step for those of theta only."""
    space = FBNetSpace(image_size=size, head=1504, fused=fused)
    model = space.supernet()
    theta = nn.Parameter(torch.zeros(space.gate_shapes[GROUP]))
    cost = torch.linspace(1000.0, 5000.0, theta.numel()).reshape(theta.shape)  # microseconds
    weights = list(model.parameters())

    def step_of(optimizer: torch.optim.Optimizer, *, train_weights: bool) -> Step:
        def step(batch: Batch) -> None:
            x, y = batch
            model.requires_grad_(train_weights)
            theta.requires_grad_(not train_weights)
            optimizer.zero_grad()
            gates = F.gumbel_softmax(theta, TEMPERATURE)
            ce = F.cross_entropy(model(x, Gates.soft({GROUP: gates})), y)
            (ALPHA * ce * (gates * cost).sum().log() ** BETA).backward()
            optimizer.step()

        return step

    sgd, adam = optimizers(weights, [theta])
    return {"weights": step_of(sgd, train_weights=True), "theta": step_of(adam, train_weights=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", type=Path, help="checkout of AnnaAraslanova/FBNet")
    for name, default in (("size", 224), ("batch", 2), ("threads", 2), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    contestants = {
        "AnnaAraslanova/FBNet": peer_steps(options.peer, options.size),
        "ours, plain": our_steps(options.size, fused=False),
        "ours, fused": our_steps(options.size, fused=True),
    }
    batch = torch.randn(options.batch, 3, options.size, options.size), torch.randint(1000, (options.batch,))
    rows = measure(contestants, lambda: batch, options.repeats)

    print_machine(options.peer)
    print(
        f"{options.threads} threads, {options.size} px, batch {options.batch}, {options.repeats} rounds; milliseconds\n"
    )
    print_table(rows, ("weights", "theta"))


if __name__ == "__main__":
    main()
