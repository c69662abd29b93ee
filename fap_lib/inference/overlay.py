"""An image with its map over it: where, how strongly, and the outline of what is above the threshold."""

import numpy as np
from PIL import Image

from fap_lib.pictures.colours import CIVIDIS, OUTLINE

OPACITY = 0.65
"""Of the map's colour where the map is 1; where it is 0 the image is untouched."""

BAND = 256
"""Rows mixed at once: a large photo in floats would take many times its own memory."""

_COLOURS = np.frombuffer(CIVIDIS, np.uint8).reshape(256, 3)


def overlay(image: Image.Image, values: np.ndarray, level: float | None) -> Image.Image:
    """Lay a map over its image.

    Args:
        image: RGB. values: (H, W) of the image's size, in [0, 1]. level: where the outline runs; None draws
            none.
    """
    pixels = np.array(image)
    for start in range(0, len(pixels), BAND):
        band = slice(start, start + BAND)
        shown = values[band].clip(0, 1)
        weight = (OPACITY * shown)[..., None]
        mixed = (1 - weight) * pixels[band] + weight * _COLOURS[np.rint(255 * shown).astype(np.uint8)]
        pixels[band] = np.rint(mixed)
    if level is not None:
        pixels[outline(values > level, max(1, round(max(image.size) / 300)))] = OUTLINE
    return Image.fromarray(pixels)


def outline(mask: np.ndarray, width: int) -> np.ndarray:
    """The inner edge of a mask, `width` pixels wide; the image's border is no edge. (H, W) bool."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
