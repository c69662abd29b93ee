"""An image with its map over it: where, how strongly, and the outline of what is above the threshold."""

import numpy as np
from PIL import Image

from fap_lib.pictures.colours import CIVIDIS, OUTLINE

OPACITY = 0.65
"""Of the map's colour where the map is 1; where it is 0 the image is untouched."""

_COLOURS = np.frombuffer(CIVIDIS, np.uint8).reshape(256, 3)


def overlay(image: Image.Image, values: np.ndarray, level: float | None) -> Image.Image:
    """Lay a map over its image.

    Args:
        image: RGB. values: (H, W) of the image's size, in [0, 1]. level: where the outline runs; None draws
            none.
    """
    values = values.clip(0, 1)
    weight = (OPACITY * values)[..., None]
    pixels = (1 - weight) * np.asarray(image) + weight * _COLOURS[np.rint(255 * values).astype(np.uint8)]
    if level is not None:
        pixels[outline(values > level, max(1, round(max(image.size) / 300)))] = OUTLINE
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def outline(mask: np.ndarray, width: int) -> np.ndarray:
    """The inner edge of a mask, `width` pixels wide; the image's border is no edge. (H, W) bool."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
