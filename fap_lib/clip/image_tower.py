"""The frozen CLIP image tower: one global feature and one dense feature per patch."""

from math import isqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fap_lib.clip.attention import attend, project_qkv
from fap_lib.clip.plain import QuickGELU, ResidualAttentionBlock, VisionTransformer
from fap_lib.core.errors import KitError


class ImageFeatures(NamedTuple):
    """What the image tower says about a batch, before normalisation.

    image: (B, D) global feature.
    tokens: (B, 1 + N, D) dense features; index 0 is the class token, the N patches follow in raster order.
    """

    image: Tensor
    tokens: Tensor


class ImageTower:
    """A `VisionTransformer` run at one image size, with a value-value path.

    In the last `vv_blocks` blocks a second residual stream runs beside CLIP's own: it adds attention
    in which the values are also queries and keys, and skips the MLP. A patch then attends to patches
    that look like itself, so its token stays local; CLIP's own attention mixes it with the rest.

    Args:
        visual: the tower; it is read, never changed.
        image_size: pixels of a side, a multiple of the patch size.
        vv_blocks: number of last blocks with the second path; 0 takes the plain patch tokens.
        class_norm: apply `ln_post` to the class token before the projection, as CLIP does and the
            released code does not (ledger: class-token-norm). Means nothing for mean-pooled towers.

    Raises:
        KitError: the size does not fit the patch, or the number of blocks does not fit the tower.

    Source: `AnomalyCLIP_lib/AnomalyCLIP.py`, `Attention`, `ResidualAttentionBlock`, `VisionTransformer`.
    """

    def __init__(self, visual: VisionTransformer, image_size: int, vv_blocks: int, class_norm: bool = False):
        self.visual = visual
        self.blocks = list(visual.transformer.resblocks)
        self.patch = visual.patch_size[0]
        if image_size <= 0 or image_size % self.patch:
            near = max(1, round(image_size / self.patch)) * self.patch
            raise KitError(
                f"an image size of {image_size} does not fit the patch of {self.patch} pixels; use {near}."
            )
        if not 0 <= vv_blocks <= len(self.blocks):
            raise KitError(
                f"vv_blocks is {vv_blocks}, but this image tower has {len(self.blocks)} blocks; "
                f"use a number from 0 to {len(self.blocks)}."
            )
        self.image_size = image_size
        self.grid = image_size // self.patch
        self.first_vv = len(self.blocks) - vv_blocks
        self.class_norm = class_norm
        self.positions = resize_positions(visual.positional_embedding.detach(), self.grid)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> ImageFeatures:
        """Encode normalised pixels (B, 3, H, W) in the tower's dtype and device."""
        visual = self.visual
        x = self.entering(pixels, 0)  # (B, 1 + N, width)

        class_only = visual.pool_type == "tok" and self.first_vv < len(self.blocks)
        dense = None
        for index, block in enumerate(self.blocks):
            if index == self.first_vv:
                dense = x.clone()
            # After the last block only the class token of CLIP's own path is read.
            last = class_only and index == len(self.blocks) - 1
            x = _block(block, x, dense, keep=1 if last else x.shape[1])

        tokens = visual.ln_post(x if dense is None else dense) @ visual.proj  # (B, 1 + N, D)
        if visual.pool_type == "avg":
            pooled = tokens if dense is None else visual.ln_post(x) @ visual.proj  # (B, 1 + N, D)
            return ImageFeatures(pooled[:, 1:].mean(dim=1), tokens)
        class_token = visual.ln_post(x[:, 0]) if self.class_norm else x[:, 0]  # (B, width)
        return ImageFeatures(class_token @ visual.proj, tokens)

    @torch.no_grad()
    def entering(self, pixels: Tensor, index: int) -> Tensor:
        """Tokens (B, 1 + N, width) that enter block `index` on CLIP's own path; 0: the embedded patches."""
        visual = self.visual
        x = visual.conv1(pixels).flatten(2).transpose(1, 2)  # (B, N, width)
        x = torch.cat([visual.class_embedding.expand(x.shape[0], 1, -1), x], dim=1)  # (B, 1 + N, width)
        x = visual.ln_pre(x + self.positions)
        for block in self.blocks[:index]:
            x = _block(block, x, None, keep=x.shape[1])
        return x


def resize_positions(positions: Tensor, grid: int) -> Tensor:
    """Positional embedding (1 + n*n, width) for a grid of `grid` x `grid` patches, resized bilinearly."""
    side = isqrt(len(positions) - 1)
    if side == grid:
        return positions
    plane = positions[1:].T.reshape(1, -1, side, side)  # (1, width, n, n)
    plane = F.interpolate(plane.float(), (grid, grid), mode="bilinear").to(positions.dtype)
    return torch.cat([positions[:1], plane.flatten(2)[0].T])  # (1 + grid * grid, width)


def _block(block: ResidualAttentionBlock, x: Tensor, dense: Tensor | None, keep: int) -> Tensor:
    """One transformer block; adds its value-value attention to `dense` in place.

    Returns CLIP's own path for the first `keep` tokens.
    """
    q, k, v = project_qkv(block.attn, block.ln_1(x))  # (B, heads, 1 + N, d) each
    if dense is not None:
        dense += block.ls_1(attend(block.attn, v, v, v))
    x, q = x[:, :keep], q[:, :, :keep]  # (B, keep, width), (B, heads, keep, d)
    x = x + block.ls_1(attend(block.attn, q, k, v))
    return x + block.ls_2(_mlp(block.mlp, block.ln_2(x)))


def _mlp(mlp: nn.Sequential, x: Tensor) -> Tensor:
    """A block's MLP. QuickGELU, x sigmoid(1.702 x), is a scaled SiLU; done in place, it allocates nothing
    of the MLP's fourfold width."""
    widen, gelu, narrow = mlp
    if not isinstance(gelu, QuickGELU):
        return mlp(x)
    return narrow(F.silu(widen(x).mul_(1.702), inplace=True).div_(1.702))
