"""What is drawn over an image: outlines of masks, squares of patches, and pixels found and missed."""

import io

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from fap_lib.core.inline import png_address
from fap_lib.pictures.style import PALETTE

FOUND, MISSED, FALSE, LINE, SQUARE = PALETTE[2], PALETTE[1], PALETTE[3], PALETTE[5], PALETTE[4]
"""Colours of anomalous pixels inside the mask, outside it, of normal ones inside; of outlines and patches."""


LEGEND = {"squares": "M most abnormal", "dots": "read by the prior", "outline": "mask"}
"""What is drawn over the image and over the patches."""


def outline(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edges of a (H, W) bool mask as closed lines, x and y in pixels; NaN ends each.

    Lines run between pixels; the centre of the upper left pixel is (0, 0).
    """
    around = np.pad(mask, 1)
    upright = zip(*_runs((around[:, 1:] != around[:, :-1])[1:-1].T), strict=True)
    level = zip(*_runs((around[1:] != around[:-1])[:, 1:-1]), strict=True)
    # At each corner exactly one upright and one level line end, so they take turns around a region.
    down = {end: other for x, a, b in upright for end, other in (((x, a), (x, b)), ((x, b), (x, a)))}
    across = {end: other for y, a, b in level for end, other in (((a, y), (b, y)), ((b, y), (a, y)))}
    points: list[tuple[float, float]] = []
    while down:
        start = point = next(iter(down))
        while point in down:
            other = down.pop(point)
            del down[other]
            points += [point, other]
            point = across[other]
        points += [start, (np.nan, np.nan)]
    x, y = np.array(points, dtype=np.float32).reshape(-1, 2).T - 0.5
    return x, y


def _runs(edges: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """Row, start and end of each run of true values along the rows of `edges`."""
    change = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(change == 1)
    return row.tolist(), start.tolist(), np.nonzero(change == -1)[1].tolist()


def squares(patches: np.ndarray, grid: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The borders of patches (raster indices) as closed lines, x and y in pixels; NaN ends each."""
    side = size / grid
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0], [np.nan, np.nan]])
    places = np.stack([patches % grid, patches // grid], axis=1)
    lines = ((places[:, None] + corners) * side - 0.5).reshape(-1, 2).astype(np.float32)
    return lines[:, 0], lines[:, 1]


def centres(patches: np.ndarray, grid: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The centres of patches, x and y in pixels."""
    side = size / grid
    return (patches % grid + 0.5) * side - 0.5, (patches // grid + 0.5) * side - 0.5


def svg_path(x: np.ndarray, y: np.ndarray) -> str:
    """Closed lines, NaN after each, as the path of an SVG; for no line at all a point that is not drawn."""
    corners = [f"{across:g},{down:g}" for across, down in zip(x.tolist(), y.tolist(), strict=True)]
    lines = " ".join(corners).split("nan,nan")
    return "".join(f"M{line.strip().replace(' ', 'L')}Z" for line in lines if line.strip()) or "M0,0Z"


def compared(pixels: np.ndarray, truth: np.ndarray | None, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the image in grey; found, missed and falsely marked pixels in their colours.

    Args:
        pixels: (H, W, 3) uint8. mask: (H, W) bool. truth: the same, or None: then the mask alone is marked,
            as found.
    """
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    truth = mask if truth is None else truth
    for colour, marked in ((FOUND, mask & truth), (MISSED, truth & ~mask), (FALSE, mask & ~truth)):
        grey[marked] = 0.3 * grey[marked] + 0.7 * 255 * np.array(to_rgb(colour))
    return grey.round().astype(np.uint8)


def data_uri(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as a PNG in an address, a few kilobytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png", compress_level=1)
    return png_address(file.getvalue())
