"""Hand-written modules with choices in them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import lightning_nas as ln


class Chosen(nn.Module):
    """Every kind of choice, two of them shared between places."""

    def __init__(self) -> None:
        super().__init__()
        width, kernel = ln.choice.Value([8, 16], label="width"), ln.choice.Value([1, 3, 5])
        self.width = width
        self.stem = nn.Conv2d(3, width, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(width)
        self.mixer, self.again = mixer(width), mixer(width)
        self.join = nn.Linear(width, 8)
        self.blocks = ln.choice.Repeat(lambda _: Block(ln.choice.Value([1, 2])), (1, 3), label="depth")
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.mixer(self.norm(self.stem(x)).relu()))
        logits: Tensor = self.head(self.blocks(self.join(x.mean((2, 3)).view(-1, self.width))))
        return logits


def mixer(width: int) -> nn.Module:
    separable = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, width, 1))
    options = {"conv2d": nn.Conv2d(width, width, 3, padding=1), "identity": nn.Identity(), "separable": separable}
    return ln.choice.Layer(options, label="mixer")


class Block(nn.Module):
    def __init__(self, ratio: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 8 * ratio), nn.Linear(8 * ratio, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(x).relu())  # type: ignore[no-any-return]


class Plain(nn.Module):
    """A module without choices, for rules."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x).mean((2, 3)))
        return logits


def narrow(conv: nn.Conv2d) -> nn.Module:
    """A convolution through a bottleneck of four channels."""
    down = nn.Conv2d(conv.in_channels, 4, 1, conv.stride)
    return nn.Sequential(down, nn.Conv2d(4, conv.out_channels, 3, padding=1))


class Sum(nn.Module):
    """The sum of two layers, and one after it."""

    def __init__(self, left: nn.Module, right: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.left, self.right, self.head = left, right, head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.left(x) + self.right(x))
        return logits


def made(kind: type[nn.Module]) -> nn.Module:
    """A module in evaluation mode whose norms are not those of a fresh one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = kind()
        for name, value in module.state_dict().items():
            if "norm" in name and value.is_floating_point():
                value.copy_(torch.rand(value.shape) + 0.5)
    return module.eval()
