"""Attention with any number of heads in the place of ``nn.MultiheadAttention``, whose heads must make up its width."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.spaces.own.axes import Channels, Part


class HeadsAttention(nn.MultiheadAttention):
    """An ``nn.MultiheadAttention`` that may have fewer heads than its width has room for; heads keep their size.

    With all heads it runs torch's own code, to the bit. The projections have ``num_heads * head_dim`` channels, the
    scale is that of ``head_dim``, and parameters have torch's names.

    Attributes:
        apart: run function by function, so that each can be read.
    """

    apart: bool = False

    @property
    def _is_whole(self) -> bool:
        return bool(self.num_heads * self.head_dim == self.embed_dim)

    @property
    def _qkv_same_embed_dim(self) -> bool:
        """What torch's fast paths ask for: they cannot run with fewer heads."""
        return bool(self.__dict__["_qkv_same_embed_dim"]) and self._is_whole

    @_qkv_same_embed_dim.setter
    def _qkv_same_embed_dim(self, value: bool) -> None:
        self.__dict__["_qkv_same_embed_dim"] = value

    def reset_parameters(self: nn.MultiheadAttention) -> None:
        """Draw as torch's does, whose own method asks what its fast paths ask to know where the weights are."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                nn.init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's; shapes are those of ``nn.MultiheadAttention``."""
        if self._is_whole and not self.apart:
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        turned = not self.batch_first and query.dim() == 3
        if turned or query.dim() == 2:
            same = query is key and key is value
            query = query.transpose(0, 1) if turned else query[None]
            key, value = (query, query) if same else ((x.transpose(0, 1) if turned else x[None]) for x in (key, value))
        projected = self._projected(query, key, value)
        q, k, v = (x.reshape(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2) for x in projected)
        mask = self._mask(attn_mask, key_padding_mask, q, need_weights, is_causal)
        share = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            weights = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
            weights = (weights if mask is None else weights + mask).softmax(-1)
            weights = F.dropout(weights, share) if share else weights
            y = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, share, is_causal and mask is None)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        if turned:
            return y.transpose(0, 1), weights
        if q.shape[0] == 1 and query.dim() == 3 and not self.batch_first:
            return y[0], None if weights is None else weights[0]
        return y, weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of all heads in a row."""
        if self.in_proj_weight is not None and query is key and key is value:
            return F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        packed = self.in_proj_weight
        weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight) if packed is None else packed.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple(F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))

    def _mask(
        self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, need_weights: bool, is_causal: bool
    ) -> Tensor | None:
        """The sum of both masks, (batch, heads, queries, keys) or less; None where ``is_causal`` says it."""
        if is_causal and padding is None and not need_weights:
            return None
        found = None
        if attn_mask is not None:
            found = _added(attn_mask, q)
            found = found.reshape(-1, self.num_heads, *found.shape[1:]) if found.dim() == 3 else found
        if padding is not None:
            hidden = _added(padding, q).reshape(-1, 1, 1, padding.shape[-1])
            found = hidden if found is None else found + hidden
        return found


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask whose entries are added to the scores: -inf where a boolean one says True."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))


def convert(network: nn.Module) -> None:
    """Make the attention modules of torch in a network ones of any number of heads; the network is changed."""
    for module in network.modules():
        if type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn:
            module.__class__ = HeadsAttention


def restore(network: nn.Module) -> None:
    """Make those that have all their heads torch's own again; the network is changed."""
    for module in network.modules():
        if isinstance(module, HeadsAttention) and module._is_whole:
            module.__class__ = nn.MultiheadAttention  # type: ignore[assignment]


def heads_of(network: nn.Module) -> Iterator[tuple[str, tuple[Part, ...], dict[str, tuple[Part, ...]]]]:
    """The heads of each attention: (path of the module, axis of the heads, first axes of its parameters by name)."""
    for path, module in network.named_modules():
        if isinstance(module, HeadsAttention):
            heads = Channels(module.num_heads, path, heads=True, used=True)
            one = (Part(heads, Fraction(module.head_dim)),)
            copies = {
                "in_proj_weight": 3,
                "in_proj_bias": 3,
                "q_proj_weight": 1,
                "k_proj_weight": 1,
                "v_proj_weight": 1,
            }
            held = {name: one * n for name, n in copies.items() if getattr(module, name) is not None}
            yield path, (Part(heads),), {f"{path}.{name}".lstrip("."): axis for name, axis in held.items()}
