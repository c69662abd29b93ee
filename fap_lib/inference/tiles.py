"""Large images: overlapping tiles, each scored as an image of its own, and their maps merged smoothly.

An image larger than a tile along an axis is scored as a whole, for what is only seen from afar, and tile by
tile, for what is too small to survive the resize. Its score is the mean of the whole's and of the highest
tile's; its map is the mean of the whole's and of the merged tiles'. Any other image is scored as ever.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from fap_lib.core.errors import KitError
from fap_lib.data.images import rgb
from fap_lib.inference.result import WholeMap

OVERLAP = 0.25
"""The default share of a tile's side that the next tile covers as well."""

SMALLEST = 16
"""Least pixels of a tile's side: less holds nothing that a CLIP could see."""

MOST_OVERLAP = 0.75
"""More would judge every pixel by more than sixteen tiles."""

Box = tuple[int, int, int, int]
"""Left, upper, right, lower, in pixels; right and lower are outside."""


class Axis(NamedTuple):
    """The tiles along one axis of an image. starts: their first pixels. side: pixels of each. length: of the
    image."""

    starts: list[int]
    side: int
    length: int

    def weights(self) -> np.ndarray:
        """(tiles, side) what each tile counts at each of its pixels; over the tiles of a pixel the sum is 1.

        A tile counts most in its middle and least at its edges, where it sees half of what is there.
        """
        window = np.sin(np.pi * (np.arange(self.side) + 0.5) / self.side) ** 2  # (side,), above 0
        total = np.zeros(self.length)
        for start in self.starts:
            total[start : start + self.side] += window
        return np.stack([window / total[start : start + self.side] for start in self.starts])


class Grid(NamedTuple):
    """The tiles of one image, in raster order."""

    rows: Axis
    columns: Axis

    def boxes(self) -> list[Box]:
        """Where the tiles are."""
        (tops, height, _), (lefts, width, _) = self
        return [(left, top, left + width, top + height) for top in tops for left in lefts]

    def views(self, image: Image.Image, size: int) -> Iterator[np.ndarray]:
        """Each tile of an RGB image at the scored size, (size, size, 3) uint8, cut as it is asked for."""
        for box in self.boxes():
            yield rgb(image.crop(box), size)

    def add(self, values: np.ndarray, maps: Iterator[np.ndarray], share: float) -> None:
        """Add to `values` (H, W) the merged tiles' maps, each of its tile's size, times `share`."""
        across = self.columns.weights().astype(np.float32)  # (columns, width)
        down = self.rows.weights().astype(np.float32)  # (rows, height)
        weights = (share * row[:, None] * column for row in down for column in across)
        for (left, top, right, lower), weight, tile in zip(self.boxes(), weights, maps, strict=True):
            values[top:lower, left:right] += weight * tile


@dataclass(frozen=True)
class Tiling:
    """How images are cut. size: pixels of a tile's side, in the image. overlap: the least share of it that
    neighbours have in common.

    Raises:
        KitError: a size or an overlap that makes no sense.
    """

    size: int
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < SMALLEST:
            raise KitError(f"tile = {self.size} must be a whole number of pixels, {SMALLEST} or more.")
        if not 0 <= self.overlap <= MOST_OVERLAP:
            raise KitError(f"overlap = {self.overlap} must be a share from 0 to {MOST_OVERLAP}.")

    def grid(self, width: int, height: int) -> Grid | None:
        """The tiles of an image; None for one that is not larger than a tile."""
        if max(width, height) <= self.size:
            return None
        return Grid(self._axis(height), self._axis(width))

    def _axis(self, length: int) -> Axis:
        """Tiles at even distances, from edge to edge: as few as the overlap allows."""
        side = min(self.size, length)
        count = 1 + math.ceil((length - side) / (side - math.floor(self.overlap * side)))
        return Axis([round(start) for start in np.linspace(0, length - side, count)], side, length)


@dataclass(frozen=True)
class TiledMap:
    """The map of a tiled image, not yet drawn; whole: that of the image as a whole, tiles: of each tile."""

    whole: WholeMap
    tiles: list[WholeMap]
    grid: Grid

    def draw(self, width: int, height: int) -> np.ndarray:
        """(height, width) float32; beside it, no more than one tile is held."""
        values = self.whole.draw(width, height) / 2
        side = self.grid.columns.side, self.grid.rows.side
        self.grid.add(values, (tile.draw(*side) for tile in self.tiles), 0.5)
        return values
