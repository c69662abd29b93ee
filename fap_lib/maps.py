"""From patch probabilities to pixel maps: bilinear resizing and Gaussian smoothing as matrix products.

Both are linear and separable, so a map is R P R^T with one small matrix R per axis: the 37 x 37
patches of an image become 518 x 518 smoothed pixels in two products, for a whole batch at once.
"""

from functools import lru_cache
from math import isqrt

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from torch import Tensor


@lru_cache(maxsize=8)
def resize_matrix(grid: int, size: int) -> Tensor:
    """(size, grid) matrix of the bilinear resize that `F.interpolate` makes (`align_corners=False`)."""
    identity = torch.eye(grid, dtype=torch.float64)[None]  # (1, grid, grid)
    columns = F.interpolate(identity, size, mode="linear")[0]  # (grid, size)
    return columns.T.contiguous()


@lru_cache(maxsize=8)
def smoothing_matrix(size: int, sigma: float) -> Tensor:
    """(size, size) matrix of `scipy.ndimage.gaussian_filter1d` (reflected edges, cut at 4 sigma)."""
    if sigma == 0:
        return torch.eye(size, dtype=torch.float64)
    return torch.from_numpy(gaussian_filter1d(np.eye(size), sigma, axis=0))


@lru_cache(maxsize=8)
def _map_matrix(grid: int, size: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    return (smoothing_matrix(size, sigma) @ resize_matrix(grid, size)).to(device, dtype)


def pixel_maps(patch_values: Tensor, size: int, sigma: float = 0.0) -> Tensor:
    """Resize (..., N) patch values to (..., size, size) pixels and smooth them; differentiable.

    Args:
        sigma: standard deviation of the Gaussian in pixels; 0 does not smooth.

    Source: `AnomalyCLIP.get_similarity_map`; `test.py:152` (SciPy's `gaussian_filter`, image by image).
    """
    grid = isqrt(patch_values.shape[-1])
    matrix = _map_matrix(grid, size, sigma, patch_values.device, patch_values.dtype)  # (size, grid)
    patches = patch_values.unflatten(-1, (grid, grid))  # (..., grid, grid)
    return matrix @ patches @ matrix.T


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of square maps (..., H, H), equal to SciPy's on each."""
    matrix = smoothing_matrix(maps.shape[-1], sigma).to(maps)  # (H, H)
    return matrix @ maps @ matrix.T
