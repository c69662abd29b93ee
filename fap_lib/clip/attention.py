"""Attention with the weights of `nn.MultiheadAttention`, in steps that both towers share."""

import torch.nn.functional as F
from torch import Tensor, nn


def project_qkv(attention: nn.MultiheadAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of tokens (B, L, width), each (B, heads, L, width / heads)."""
    qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


def attend(
    attention: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Scaled dot-product attention and its output projection: (B, heads, L, d) to (B, L, width)."""
    heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return attention.out_proj(heads.transpose(1, 2).flatten(2))


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """Who attends to whom: queries and keys (B, heads, L, d) to (B, heads, L, L), each row sums to 1.

    `attend` never makes this matrix; it is for looking at.
    """
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
