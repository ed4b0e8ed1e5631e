"""Small hand-written modules, one for each way in which channels are coupled."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A block that adds to its input, squeeze and excitation, a depthwise convolution, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.block = Inverted(16, 32)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.norm(self.stem(x)).relu())
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Inverted(nn.Module):
    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, middle, 1)
        self.depthwise = nn.Conv2d(middle, middle, 5, padding=2, groups=middle, bias=False)
        self.norm = nn.BatchNorm2d(middle)
        self.squeeze, self.excite = nn.Conv2d(middle, 8, 1), nn.Conv2d(8, middle, 1)
        self.project = nn.Conv2d(middle, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.depthwise(self.expand(x))), inplace=True)
        y = y * self.excite(self.squeeze(F.adaptive_avg_pool2d(y, 1)).relu()).sigmoid()
        return x + self.project(y)


class Grouped(nn.Module):
    """Grouped convolutions that keep, double and halve the channels of a group."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 1)
        self.b = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.c = nn.Conv2d(16, 32, 1, groups=4, bias=False)
        self.d = nn.Conv2d(32, 16, 1, groups=8)
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.d(self.c(self.b(self.a(x)).relu()).relu())).mean((2, 3))  # type: ignore[no-any-return]


class Concatenated(nn.Module):
    """Branches side by side, a norm and a depthwise convolution over all of them, and a dense connection."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(24)
        self.depthwise = nn.Conv2d(24, 48, 3, padding=1, groups=24)
        self.mix = nn.Conv2d(48, 16, 1)
        self.head = nn.Linear(16 + 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x).relu()
        both = self.norm(torch.cat([left, self.right(x)], 1))
        mixed = self.mix(self.depthwise(both)).relu()
        logits: Tensor = self.head(torch.cat((mixed, left), dim=1).mean((-1, -2)))
        return logits


class Flattened(nn.Module):
    """A map is flattened before a linear layer; group, instance and layer norm; a parametric rectifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.group = nn.GroupNorm(4, 16)
        self.instance = nn.InstanceNorm2d(16, affine=True, track_running_stats=True)
        self.slope = nn.PReLU(16)
        self.hidden = nn.Linear(16 * 16, 32)
        self.layer = nn.LayerNorm(32)
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, 32))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.slope(self.instance(self.group(self.conv(x))))
        x = F.max_pool2d(x, 2).view(x.size(0), -1)
        logits: Tensor = self.head(self.layer(self.gain * self.hidden(x)).relu())
        return logits


class Tied(nn.Module):
    """One layer that runs twice, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 16)
        self.again = nn.Linear(16, 16)
        self.other = nn.Linear(16, 16, bias=False)
        self.other.weight = self.again.weight
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.again(self.first(x)).relu())
        logits: Tensor = self.head(self.other(x).relu())
        return logits


class Tokens(nn.Module):
    """Channels last: layer norms, a block with two residual sums, a learned position, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 2, 2)
        self.position = nn.Parameter(torch.linspace(-1, 1, 16 * 16).view(1, 16, 16))
        self.norm = nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        logits: Tensor = self.head(x.mean(1))
        return logits


class Written(nn.Module):
    """Numbers in the code: a view that only fits the whole map, half of the channels, and a shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 1)
        self.c, self.d = nn.Conv2d(16, 16, 1), nn.Conv2d(8, 8, 1)
        self.hidden = nn.Linear(8 * 64, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).relu())
        n, c, h, w = x.shape
        x = self.c(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))
        x = self.d(x[:, :8])
        logits: Tensor = self.head(self.hidden(x.view(-1, 512)).relu())
        return logits


class Halves(nn.Module):
    """Two equal branches are joined and divided again."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 16, 1)
        self.one, self.two = nn.Conv2d(16, 5, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.cat([self.left(x), self.right(x)], 1).relu().chunk(2, 1)
        return (self.one(a) + self.two(b)).mean((2, 3))  # type: ignore[no-any-return]


class Merged(nn.Module):
    """Channels last; four neighbours become one, as patches in a Swin transformer; the map is flattened at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 2, 2)
        self.norm = nn.LayerNorm(64)
        self.reduction = nn.Linear(64, 16, bias=False)
        self.head = nn.Linear(4 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1).relu()
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)
        logits: Tensor = self.head(self.reduction(self.norm(x)).flatten(1))
        return logits


SHAPES: dict[type[nn.Module], tuple[int, ...]] = {Tied: (1, 6)}


def shape(kind: type[nn.Module]) -> tuple[int, ...]:
    """Shape of an example with the batch."""
    return SHAPES.get(kind, (1, 3, 8, 8))


def made(kind: type[nn.Module]) -> nn.Module:
    """A module in evaluation mode whose norms are not those of a fresh one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = kind()
        for name, value in module.state_dict().items():
            if "norm" in name or "instance" in name or "group" in name:
                value.copy_(torch.rand(value.shape) + 0.5 if value.is_floating_point() else value)
    return module.eval()
