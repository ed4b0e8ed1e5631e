"""What a GPU does with a step of our supernets: equality with the CPU; eager, compiled and captured steps compared.

    bash benchmarks/device.sh [--peer PATH_TO_PEER] [--out device.json] [--tiny]

PATH_TO_PEER is a checkout of https://github.com/quark0/darts. On a CUDA device at most eight minutes: DARTS' space with
16 channels and 8 cells, 32 px, batch 64. Without one, or with ``--tiny``, everything is small, and what needs CUDA is
named with its reason. One JSON file holds it all; the exit code is 1 if anything is not equal or falls back.

- ``equal``: loss and gradients of three supernets in float64, here and on the CPU, from the same weights and noise.
- ``steps``: milliseconds of a weights step and an architecture step, medians of rounds in which all take turns: the
  peer, ours eager, the plain form compiled as one graph (a break of the graph is an error, not a fall-back), ours
  captured as a CUDA graph and with bfloat16. Noise of gates is drawn outside the graph and copied in, so that it is the
  same as without one.
- ``command``: the command itself on one CUDA device, and on two where there are two.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_nas.functional.relaxation import gumbel_noise, gumbel_softmax
from lightning_nas.spaces.base import Supernet, WeightSharingSpace
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.nasbench201.space import NASBench201Space

CLASSES, TOLERANCE = 10, 1e-9
Batch = tuple[Tensor, Tensor]
Rows = dict[str, Tensor]


def spaces(tiny: bool) -> dict[str, WeightSharingSpace]:
    """The supernets that are compared with those on the CPU."""
    channels, cells = (8, 3) if tiny else (16, 8)
    return {
        "darts": DARTSSpace(channels=channels, cells=cells, num_classes=CLASSES, fused=False),
        "darts, fused": DARTSSpace(channels=channels, cells=cells, num_classes=CLASSES, fused=True),
        "nasbench201": NASBench201Space("nasbench201", image_size=32, channels=channels, cells=(1, 1, 1)),
    }


def stepped(options: Namespace, *, fused: bool) -> WeightSharingSpace:
    """The space whose steps are timed: that of the peer, or with small sizes one that compiles in seconds."""
    if options.tiny:
        return NASBench201Space("nasbench201", image_size=32, channels=8, cells=(1, 1, 1), fused=fused)
    return DARTSSpace(channels=options.channels, cells=options.cells, num_classes=CLASSES, fused=fused)


def noise_of(space: WeightSharingSpace, seed: int) -> Rows:
    """Gumbel noise of every choice, drawn on the CPU as the searches draw it."""
    rng = torch.Generator().manual_seed(seed)
    return {group: gumbel_noise(torch.Size(shape), rng) for group, shape in space.gate_shapes.items()}


def batch_of(size: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Batch:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(size, 3, 32, 32, generator=rng), torch.randint(CLASSES, (size,), generator=rng)
    return x.to(device, dtype), y.to(device)


def loss_of(model: nn.Module, theta: Rows, noise: Rows, batch: Batch) -> Tensor:
    """Cross entropy under one draw of soft gates at temperature 1."""
    rows = {group: gumbel_softmax(theta[group].log_softmax(-1), noise[group], 1.0) for group in theta}
    return F.cross_entropy(model(batch[0], Gates.soft(rows)), batch[1])


def equal(space: WeightSharingSpace, device: torch.device) -> dict[str, Any]:
    """Loss and gradients on the device against those on the CPU, in float64."""
    found: list[tuple[Tensor, list[Tensor]]] = []
    for where in (torch.device("cpu"), device):
        torch.manual_seed(0)
        model = space.supernet().double().to(where)
        theta = {g: torch.zeros(s, dtype=torch.float64, device=where) for g, s in space.gate_shapes.items()}
        noise = {group: rows.double().to(where) for group, rows in noise_of(space, 1).items()}
        parameters = [*model.parameters(), *(rows.requires_grad_() for rows in theta.values())]
        loss = loss_of(model, theta, noise, batch_of(4, where, torch.float64))
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        found.append((loss.detach().cpu(), [g.cpu() for g in gradients if g is not None]))
    (loss, ours), (other, theirs) = found
    scale = max(float(gradient.abs().max()) for gradient in ours)
    apart = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) / scale
    return {"loss": abs(float(loss - other)), "gradients": apart, "equal": apart <= TOLERANCE}


class Steps:
    """A weights step and an architecture step of our supernet.

    Args:
        options: sizes.
        device: of the supernet.
        form: "eager", "compiled", "captured" or "bfloat16".
    """

    def __init__(self, options: Namespace, device: torch.device, form: str) -> None:
        self.space = stepped(options, fused=form != "compiled")
        self.device, self.form = device, form
        torch.manual_seed(0)
        self.model: Supernet = self.space.supernet().to(device)
        self.weights = list(self.model.parameters())
        self.theta = {g: torch.zeros(s, device=device, requires_grad=True) for g, s in self.space.gate_shapes.items()}
        self.noise = {group: rows.to(device) for group, rows in noise_of(self.space, 0).items()}
        self.batch = batch_of(options.batch, device)
        self.sgd = torch.optim.SGD(self.weights, lr=0.025, momentum=0.9, weight_decay=3e-4)
        self.adam = torch.optim.Adam([*self.theta.values()], lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
        self.loss: Callable[[], Tensor] = self._loss
        if form == "compiled":
            backend = "inductor" if device.type == "cuda" else "aot_eager"
            self.loss = torch.compile(self._loss, fullgraph=True, dynamic=False, backend=backend)
        self.graphs = {name: self._captured(name) for name in ("weights", "arch")} if form == "captured" else {}
        self.drawn = 0

    def _loss(self) -> Tensor:
        return loss_of(self.model, self.theta, self.noise, self.batch)

    def _backward(self, name: str) -> None:
        trained = self.weights if name == "weights" else [*self.theta.values()]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.form == "bfloat16"):
            loss = self.loss()
        for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained, allow_unused=True), strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.copy_(gradient)

    def _captured(self, name: str) -> torch.cuda.CUDAGraph:
        """Forward and backward as one graph, after three steps that allocate what it needs."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._backward(name)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._backward(name)
        return graph

    def step(self, name: str) -> None:
        """New noise, gradients, and a step of the optimiser."""
        self.drawn += 1
        for group, rows in noise_of(self.space, self.drawn).items():
            self.noise[group].copy_(rows)
        if self.graphs:
            self.graphs[name].replay()
        else:
            self._backward(name)
        trained = self.weights if name == "weights" else [*self.theta.values()]
        nn.utils.clip_grad_norm_(trained, 5.0)
        (self.sgd if name == "weights" else self.adam).step()


def milliseconds(step: Callable[[], None], device: torch.device) -> float:
    """Of one call, everything on the device included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def peer_steps(options: Namespace, device: torch.device) -> Callable[[str], None]:
    """The peer's model, its weights step and its first-order architecture step."""
    sys.path.insert(0, str(options.peer / "cnn"))
    from architect import Architect
    from model_search import Network

    if device.type == "cpu":
        torch.Tensor.cuda = nn.Module.cuda = lambda moved, *_, **__: moved  # type: ignore[assignment]
    torch.manual_seed(0)
    model = Network(options.channels, CLASSES, options.cells, nn.CrossEntropyLoss().to(device)).to(device)
    how = Namespace(momentum=0.9, weight_decay=3e-4, arch_learning_rate=3e-4, arch_weight_decay=1e-3)
    architect, batch = Architect(model, how), batch_of(options.batch, device)
    sgd = torch.optim.SGD(model.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)

    def step(name: str) -> None:
        if name == "arch":
            architect.step(*batch, *batch, 0.025, sgd, unrolled=False)
            return
        sgd.zero_grad()
        model._loss(*batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        sgd.step()

    return step


def compared(options: Namespace, device: torch.device) -> dict[str, Any]:
    """Medians of all contestants, and what the forms of ours differ by after the same steps."""
    forms = ["eager", "compiled"] + (["captured", "bfloat16"] if device.type == "cuda" else [])
    made = {form: Steps(options, device, form) for form in forms}
    contestants: dict[str, Callable[[str], None]] = {f"ours, {form}": steps.step for form, steps in made.items()}
    if options.peer and not options.tiny:
        contestants = {"quark0/darts": peer_steps(options, device)} | contestants
    rows: dict[str, dict[str, list[float]]] = {name: {"weights": [], "arch": []} for name in contestants}
    for turn in range(options.repeats + options.before):  # the first compile and warm up
        for name, step in contestants.items():
            for kind in ("weights", "arch"):
                taken = milliseconds(lambda step=step, kind=kind: step(kind), device)  # type: ignore[misc]
                if turn >= options.before:
                    rows[name][kind].append(taken)
    told = {name: {kind: statistics.median(taken) for kind, taken in row.items()} for name, row in rows.items()}
    first = next(iter(told.values()))
    eager = torch.cat([weight.detach().flatten() for weight in made["eager"].weights])
    for name, row in told.items():
        row["times_faster"] = sum(first.values()) / (row["weights"] + row["arch"]) if row is not first else 1.0
        if (form := name.removeprefix("ours, ")) in made:
            other = torch.cat([weight.detach().flatten() for weight in made[form].weights])
            row["weights_apart"] = float((other - eager).norm() / eager.norm())
    skipped = {form: "needs a CUDA device" for form in ("captured", "bfloat16") if form not in forms}
    exact = all(told[f"ours, {form}"]["weights_apart"] < 1e-2 for form in forms if form != "bfloat16")
    return {"milliseconds": told, "skipped": skipped, "equal": exact}


def command(count: int) -> dict[str, Any]:
    """Exit code and seconds of a short search by the command."""
    where = ["trainer.accelerator=gpu", f"trainer.devices={count}", *(["trainer=ddp"] if count > 1 else [])]
    with tempfile.TemporaryDirectory() as scratch:
        settings = ["debug=fast", "latency_table=macs", "logger=none", f"hydra.run.dir={scratch}/run"]
        start = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, "-m", "lightning_nas.run", "strategy=darts", *settings, *where],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
    told = {"exit_code": ended.returncode, "seconds": round(time.perf_counter() - start, 1)}
    return told | {"equal": not ended.returncode, "error": ended.stderr[-500:] if ended.returncode else None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="checkout of quark0/darts")
    parser.add_argument("--out", type=Path, default=Path("device.json"))
    parser.add_argument("--tiny", action="store_true", help="small sizes, as without a CUDA device")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.tiny |= device.type == "cpu"
    sizes = (8, 3, 4, 1, 1) if options.tiny else (16, 8, 64, 20, 3)
    options.channels, options.cells, options.batch, options.repeats, options.before = sizes
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    told: dict[str, Any] = {"device": name, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    told |= {key: getattr(options, key) for key in ("channels", "cells", "batch", "repeats")}
    told["equal"] = {key: equal(space, device) for key, space in spaces(options.tiny).items()}
    told["steps"] = compared(options, device)
    counts = range(1, min(2, torch.cuda.device_count()) + 1)
    told["command"] = {f"devices: {count}": command(count) for count in counts}
    options.out.write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told, indent=2))
    parts = [*told["equal"].values(), told["steps"], *told["command"].values()]
    return int(not all(part["equal"] for part in parts))


if __name__ == "__main__":
    sys.exit(main())
