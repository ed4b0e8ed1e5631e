"""Hand-written attention: one class for each way in which code divides channels into heads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lightning_nas as ln

SIDE, LENGTH, WIDTH = 6, 7, 32


class Fused(nn.Module):
    """One projection for queries, keys and values; heads are an attribute."""

    def __init__(self, how: str, heads: int = 4) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.inner, self.how = heads, WIDTH // 4, WIDTH, how
        self.scale = self.head_dim**-0.5
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.how == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v)
        elif self.how == "einsum":
            y = torch.einsum("n h i d, n h j d -> n h i j", q * self.scale, k).softmax(-1) @ v
        else:
            y = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1) @ v
        y = y.transpose(1, 2).reshape(n, length, self.inner if self.how == "products" else -1)
        out: Tensor = self.proj(y)
        return out


class Written(nn.Module):
    """The number of heads is written in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(len(x), LENGTH, 3, 4, 8).permute(2, 0, 3, 1, 4)
        out: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class Shared(nn.Module):
    """Grouped queries: eight heads of queries, four of keys and values."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim, self.how = 8, 4, 4, how
        self.q, self.o = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
        self.k, self.v = nn.Linear(WIDTH, 16, bias=False), nn.Linear(WIDTH, 16)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q = self.q(x).view(n, length, self.n_heads, self.head_dim).transpose(1, 2)
        k = self.k(x).view(n, length, self.n_kv_heads, self.head_dim).transpose(1, 2)
        v = self.v(x).view(n, length, -1, self.head_dim).transpose(1, 2)
        each = self.n_heads // self.n_kv_heads
        if self.how == "repeat":
            k, v = k.repeat_interleave(each, 1), v.repeat_interleave(each, 1)
        elif self.how == "expand":
            shape = (n, self.n_kv_heads, each, length, self.head_dim)
            k, v = (x[:, :, None].expand(shape).reshape(n, self.n_heads, length, self.head_dim) for x in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.how == "enable_gqa")
        out: Tensor = self.o(y.transpose(1, 2).flatten(2))
        return out


class InputWide(nn.Module):
    """Code that takes the number of channels of all heads from its input; a bias of relative positions from a table."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.n_head, self.n_embd, self.how = 4, WIDTH, how
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.table = nn.Parameter(torch.linspace(-1, 1, 4 * (2 * LENGTH - 1)).view(-1, 4))
        places = torch.arange(LENGTH)
        self.register_buffer("places", (places[:, None] - places + LENGTH - 1).flatten())

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        parts = self.c_attn(x)
        cut = parts.split(self.n_embd, dim=2) if self.how == "split" else parts.chunk(3, dim=2)
        q, k, v = (part.view(n, length, self.n_head, width // self.n_head).transpose(1, 2) for part in cut)
        bias = self.table[self.places].view(length, length, -1).permute(2, 0, 1).contiguous()
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.unsqueeze(0))
        out: Tensor = self.c_proj(y.transpose(1, 2).contiguous().view(n, length, width))
        return out


class Torchs(nn.Module):
    """``nn.MultiheadAttention``, of one tensor or of two."""

    def __init__(self, how: str) -> None:
        super().__init__()
        first = how != "second"
        sides = {"kdim": 12, "vdim": 12} if how == "other" else {}
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=first, dropout=0.0, **sides)
        self.memory = nn.Linear(WIDTH, 12) if how == "other" else None
        self.how, self.first = how, first

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else x.transpose(0, 1)
        if self.how == "masked":
            mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool, device=x.device).triu(1)
            y = self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        elif self.memory is not None:
            memory = self.memory(x)
            y, weights = self.attention(x, memory, memory)
            y = y + weights.mean(-1, keepdim=True)
        else:
            y = self.attention(x, x, x)[0]
        return y if self.first else y.transpose(0, 1)  # type: ignore[no-any-return]


class Network(nn.Module):
    """A transformer of one layer."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.embed, self.norm, self.attention = nn.Linear(SIDE, WIDTH), nn.LayerNorm(WIDTH), attention
        self.up, self.down, self.head = nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.attention(self.norm(x))
        x = x + self.down(F.gelu(self.up(x)))
        logits: Tensor = self.head(x.mean(1))
        return logits


class Chosen(nn.Module):
    """An encoder layer of torch whose width and number of heads are choices."""

    def __init__(self) -> None:
        super().__init__()
        width, heads = ln.choice.Value([16, WIDTH], label="width"), ln.choice.Value([1, 2, 4], label="heads")
        self.embed, self.head = nn.Linear(SIDE, width), nn.Linear(width, 5)
        self.layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(self.embed(x)).mean(1))
        return logits


class Encoder(nn.Module):
    """``nn.TransformerEncoder``, with its norms before or after."""

    def __init__(self, *, norm_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, 0.0, batch_first=True, norm_first=norm_first)
        self.embed, self.head = nn.Linear(SIDE, WIDTH), nn.Linear(WIDTH, 5)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.embed(x)).mean(1))
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{f"fused-{how}": (lambda how=how: Network(Fused(how))) for how in ("sdpa", "products", "einsum")},  # type: ignore[misc]
    **{f"shared-{how}": (lambda how=how: Network(Shared(how))) for how in ("enable_gqa", "repeat", "expand")},  # type: ignore[misc]
    **{f"wide-{how}": (lambda how=how: Network(InputWide(how))) for how in ("split", "chunk")},  # type: ignore[misc]
    **{f"torch-{how}": (lambda how=how: Network(Torchs(how))) for how in ("first", "second", "other", "masked")},  # type: ignore[misc]
    "encoder-before": lambda: Encoder(norm_first=True),
    "encoder-after": lambda: Encoder(norm_first=False),
}


def made(name: str) -> nn.Module:
    """A network in evaluation mode with weights of one seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name]().eval()
