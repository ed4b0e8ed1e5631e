"""Small language models of whole numbers, written as Hugging Face's are."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WORDS, LENGTH, WIDTH, HEADS = 20, 6, 32, 4


class Conv1D(nn.Module):
    """A linear layer whose weight is turned: (inputs, outputs)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf) * 0.2), nn.Parameter(torch.randn(nf) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.size()[:-1], self.nf)


class CausalAttention(nn.Module):
    """One projection, divided by a size that is an attribute; a causal mask in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.split_size, self.head_dim = WIDTH, WIDTH // HEADS
        self.c_attn, self.c_proj = Conv1D(3 * WIDTH, WIDTH), Conv1D(WIDTH, WIDTH)
        self.register_buffer("hidden", torch.ones(LENGTH, LENGTH).triu(1).bool())

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = (
            part.view(n, length, -1, self.head_dim).transpose(1, 2)
            for part in self.c_attn(x).split(self.split_size, dim=2)
        )
        scores = (q @ k.transpose(-1, -2) * self.head_dim**-0.5).masked_fill(self.hidden[:length, :length], -1e9)
        out: Tensor = self.c_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, -1))
        return out


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(WIDTH), CausalAttention(), nn.LayerNorm(WIDTH)
        self.c_fc, self.c_proj = Conv1D(48, WIDTH), Conv1D(WIDTH, 48)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        y: Tensor = self.c_proj(F.gelu(self.c_fc(self.ln_2(x))))
        return x + y


class GPT(nn.Module):
    """Words and positions, blocks, and a head that has the weight of the embedding."""

    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.h, self.ln_f = nn.ModuleList(Block() for _ in range(blocks)), nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.wte(words) + self.wpe(torch.arange(words.shape[1], device=words.device))
        for block in self.h:
            x = block(x)
        logits: Tensor = self.lm_head(self.ln_f(x))
        return logits


class Layer(nn.Module):
    """Attention and a perceptron, normalised after each sum; padding is hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_head_size = WIDTH // HEADS
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.dense, self.norm_1 = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.up, self.down, self.norm_2 = nn.Linear(WIDTH, 48), nn.Linear(48, WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, shown: Tensor | None) -> Tensor:
        heads = (*x.shape[:-1], -1, self.attention_head_size)
        q, k, v = (project(x).view(heads).transpose(1, 2) for project in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(q, k, v, shown).transpose(1, 2).reshape(*x.shape[:-1], -1)
        x = self.norm_1(x + self.dense(y))
        out: Tensor = self.norm_2(x + self.down(F.gelu(self.up(x))))
        return out


class RMS(nn.Module):
    """A norm that is written out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class BERT(nn.Module):
    """An encoder of words with a mask, which asks for its values, and kinds; it returns a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(WORDS, WIDTH, padding_idx=0), nn.Embedding(2, WIDTH)
        self.register_buffer("position_ids", torch.arange(LENGTH).expand(1, -1), persistent=False)
        self.positions, self.norm = nn.Embedding(LENGTH, WIDTH), RMS()
        self.layer = nn.ModuleList(Layer() for _ in range(2))
        self.pooler, self.classifier = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> OrderedDict[str, Tensor]:
        kinds = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        places = self.positions(self.position_ids[:, : input_ids.shape[1]])
        x = self.norm(self.words(input_ids) + self.kinds(kinds) + places)
        shown = None
        if attention_mask is not None and not attention_mask.all():
            shown = attention_mask[:, None, None, :].bool()
        for layer in self.layer:
            x = layer(x, shown)
        return OrderedDict(logits=self.classifier(self.pooler(x[:, 0]).tanh()), hidden=x)


def made(kind: type[nn.Module]) -> nn.Module:
    """A module in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind().eval()
