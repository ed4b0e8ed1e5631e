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
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_nas.spaces.fbnet import GROUP, FBNetSpace
from lightning_nas.spaces.gates import Gates

ALPHA, BETA, TEMPERATURE = 0.2, 0.6, 5.0
Step = Callable[[Tensor, Tensor], None]


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
        def step(x: Tensor, y: Tensor) -> None:
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
        def step(x: Tensor, y: Tensor) -> None:
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


def measure(contestants: dict[str, dict[str, Step]], size: int, batch: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds after a warm-up round: medians of the weights step, the theta step and the pair; the least pair."""
    x, y = torch.randn(batch, 3, size, size), torch.randint(1000, (batch,))
    rounds: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for _ in range(repeats + 1):
        for name, steps in contestants.items():
            times = []
            for step in (steps["weights"], steps["theta"]):
                start = time.perf_counter()
                step(x, y)
                times.append(1000 * (time.perf_counter() - start))
            rounds[name].append([*times, sum(times)])
    columns = {name: list(zip(*rows[1:], strict=True)) for name, rows in rounds.items()}
    return {name: [*map(statistics.median, times), min(times[-1])] for name, times in columns.items()}


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(": ")[2] if names else platform.processor()


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
    rows = measure(contestants, options.size, options.batch, options.repeats)

    command = ["git", "-C", str(options.peer), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    print(f"peer commit {commit or 'unknown'}; torch {torch.__version__}; {processor()}")
    print(
        f"{options.threads} threads, {options.size} px, batch {options.batch}, {options.repeats} rounds; milliseconds\n"
    )
    print("| | weights | theta | both | times faster | fastest both | times faster |\n|---|---|---|---|---|---|---|")
    *_, base, base_least = rows["AnnaAraslanova/FBNet"]
    for name, (weights, theta, both, least) in rows.items():
        ratios = f"{both:.0f} | {base / both:.2f} | {least:.0f} | {base_least / least:.2f}"
        print(f"| {name} | {weights:.0f} | {theta:.0f} | {ratios} |")


if __name__ == "__main__":
    main()
