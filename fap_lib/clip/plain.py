"""A CLIP of two plain transformers, as OpenAI built it, with the names of open_clip's state dict.

open_clip's own classes hold the same weights and compute the same (a test compares them). These are here
because they cost nothing to import: open_clip brings torchvision and timm along, and takes longer to start
than all that the kit does with an image.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """In the type of what comes in, under autocast as well."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), OpenAI's approximation of the GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class LayerScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, width: int, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class MLP(nn.Sequential):
    """Two linear layers with the activation between them."""

    def __init__(self, width: int, wide: int, quick_gelu: bool):
        super().__init__()
        self.c_fc = nn.Linear(width, wide)
        self.gelu = QuickGELU() if quick_gelu else nn.GELU()
        self.c_proj = nn.Linear(wide, width)


class ResidualAttentionBlock(nn.Module):
    """Attention and an MLP, each on normalised tokens and added to what came in."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, layer_scale: float | None, quick_gelu: bool):
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.ln_2 = LayerNorm(width)
        self.mlp = MLP(width, int(width * mlp_ratio), quick_gelu)
        self.ls_2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """(B, L, width) to (B, L, width); attn_mask: (L, L), added to the logits of attention."""
        normed = self.ln_1(x)
        x = x + self.ls_1(self.attn(normed, normed, normed, need_weights=False, attn_mask=attn_mask)[0])
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    """A stack of blocks."""

    resblocks: Sequence[ResidualAttentionBlock]

    def __init__(self, width: int, layers: int, heads: int, quick_gelu: bool, options: dict[str, Any]):
        super().__init__()
        ratio, scale = options.get("mlp_ratio", 4.0), options.get("ls_init_value")
        blocks = [ResidualAttentionBlock(width, heads, ratio, scale, quick_gelu) for _ in range(layers)]
        self.resblocks = nn.ModuleList(blocks)  # type: ignore[assignment]


class VisionTransformer(nn.Module):
    """The image tower's weights; `fap_lib.clip.image_tower` computes with them.

    pool_type: `tok`, the image's feature is the class token's; `avg`, it is the patches' mean.
    """

    def __init__(self, output_dim: int, quick_gelu: bool, options: dict[str, Any]):
        super().__init__()
        size, patch = options.get("image_size", 224), options.get("patch_size", 16)
        width, layers = options.get("width", 768), options.get("layers", 12)
        grid, scale = size // patch, width**-0.5
        self.patch_size = (patch, patch)
        self.output_dim = output_dim
        self.pool_type = options.get("pool_type", "tok")
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(grid * grid + 1, width))
        self.ln_pre = LayerNorm(width)
        heads = width // options.get("head_width", 64)
        self.transformer = Transformer(width, layers, heads, quick_gelu, options)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, output_dim))


class CLIP(nn.Module):
    """Both towers; the text tower's parts stand at the top level, as in OpenAI's files.

    Weights are drawn from the current random state in open_clip's order, so that a seed gives open_clip's.

    Args:
        embed_dim: D, the width of the joint space. vision_cfg, text_cfg: open_clip's descriptions of the
            towers.
    """

    attn_mask: Tensor

    def __init__(
        self,
        embed_dim: int,
        vision_cfg: dict[str, Any],
        text_cfg: dict[str, Any],
        quick_gelu: bool = False,
    ):
        super().__init__()
        self.visual = VisionTransformer(embed_dim, quick_gelu, vision_cfg)
        length, words = text_cfg.get("context_length", 77), text_cfg.get("vocab_size", 49408)
        width, layers = text_cfg.get("width", 512), text_cfg.get("layers", 12)
        embedding = nn.Embedding(words, width)  # drawn before the blocks, and registered after them
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.transformer = Transformer(width, layers, text_cfg.get("heads", 8), quick_gelu, text_cfg)
        self.token_embedding = embedding
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.register_buffer("attn_mask", causal_mask(length), persistent=False)
        self._draw_text(width, layers)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def _draw_text(self, width: int, layers: int) -> None:
        """The text tower's first weights; the image tower's are torch's own."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        narrow, residual = width**-0.5, (2 * layers) ** -0.5
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=narrow)
            nn.init.normal_(block.attn.out_proj.weight, std=narrow * residual)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=narrow * residual)
        nn.init.normal_(self.text_projection, std=narrow)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit text features (S, D) of token ids (S, L), read at each text's end token, its largest id."""
        length = tokens.shape[1]
        x = self.token_embedding(tokens) + self.positional_embedding[:length]  # (S, L, width)
        mask = self.attn_mask[:length, :length].to(x.dtype)
        for block in self.transformer.resblocks:
            x = block(x, attn_mask=mask)
        rows = torch.arange(len(tokens), device=tokens.device)
        ends = self.ln_final(x)[rows, tokens.argmax(dim=-1)]  # (S, width)
        return F.normalize(ends @ self.text_projection, dim=-1)


def causal_mask(length: int) -> Tensor:
    """(L, L): 0 where a token may look, at itself and those before it, and minus infinity elsewhere."""
    return torch.full((length, length), float("-inf")).triu(1)
