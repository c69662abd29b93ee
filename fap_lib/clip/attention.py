"""Attention with the weights of `nn.MultiheadAttention`, in steps that both towers share."""

import torch.nn.functional as F
from torch import Tensor, nn


def project_qkv(attention: nn.MultiheadAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of tokens (B, L, width), each (B, heads, L, width / heads)."""
    qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)  # (B, L, 3 * width)
    qkv = qkv.unflatten(-1, (3, attention.num_heads, -1))  # (B, L, 3, heads, d)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, L, d) each
    return q, k, v


def attend(
    attention: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Scaled dot-product attention and its output projection: (B, heads, L, d) to (B, L, width)."""
    heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, heads, L, d)
    joined = heads.transpose(1, 2).flatten(2)  # (B, L, heads * d), which is the width
    return attention.out_proj(joined)


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """Who attends to whom: queries and keys (B, heads, L, d) to (B, heads, L, L), each row sums to 1.

    `attend` never makes this matrix; it is for looking at.
    """
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
