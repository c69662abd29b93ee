"""What every picture is drawn with: coordinates under a random pose, tileable noise, named colours."""

from collections.abc import Sequence
from functools import cache

import numpy as np

SIZE = 96
"""Side of a generated image in pixels, at scale 1."""

BANK = 512
SIGMAS = (0.7, 1.5, 3.0, 6.0, 12.0, 24.0)

COLOURS = {
    "red": (0.75, 0.16, 0.15),
    "orange": (0.90, 0.50, 0.14),
    "yellow": (0.90, 0.80, 0.25),
    "green": (0.25, 0.58, 0.28),
    "teal": (0.18, 0.58, 0.58),
    "blue": (0.20, 0.36, 0.74),
    "purple": (0.48, 0.27, 0.62),
    "pink": (0.90, 0.58, 0.64),
    "brown": (0.46, 0.30, 0.18),
    "beige": (0.83, 0.74, 0.59),
    "white": (0.90, 0.90, 0.88),
    "grey": (0.56, 0.57, 0.58),
    "black": (0.13, 0.13, 0.14),
}

STRUCTURAL = ("missing", "bent", "swapped")
"""Defects of the construction itself: the renderer draws the part wrongly."""


@cache
def bank() -> tuple[np.ndarray, ...]:
    """Tileable Gaussian noise (BANK, BANK) float32 of unit variance, one a scale in `SIGMAS` (pixels)."""
    rng = np.random.default_rng(20250)
    frequency = np.fft.fftfreq(BANK)
    squared = frequency[:, None] ** 2 + frequency[None, :] ** 2
    layers = []
    for sigma in SIGMAS:
        spectrum = np.fft.fft2(rng.standard_normal((BANK, BANK))) * np.exp(-2 * np.pi**2 * sigma**2 * squared)
        layer = np.fft.ifft2(spectrum).real
        layers.append(((layer - layer.mean()) / layer.std()).astype(np.float32))
    return tuple(layers)


@cache
def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel columns and rows relative to the centre, each (size, size) float32."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32) - (size - 1) / 2
    return columns, rows


def window(layer: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """A window (size, size) of the bank at a random place."""
    row, column = rng.integers(0, BANK - size, 2)
    return bank()[layer][row : row + size, column : column + size]


class Canvas:
    """One image in the making.

    u, v: surface coordinates in pixels after a random rotation, zoom and shift (textures).
    x, y: the same for a centred object, in units of its radius; `unit` is that radius in pixels.
    size: its side in pixels.
    words: what a caption may say of the image, filled by the renderer: colour, background, structure.
    """

    def __init__(self, rng: np.random.Generator, turn: float, fault: str | None = None, scale: int = 1):
        """Args:
        turn: largest rotation in degrees. fault: a structural defect that the renderer shall draw.
        scale: how many times as large the image is. An object grows with it, in finer detail; of a surface
            there is more to see. Their texture has the same grain in pixels.
        """
        self.rng = rng
        self.fault = fault
        # A stream of its own, so that the picture with the fault is otherwise the one without.
        self.fault_rng = np.random.default_rng(int(rng.integers(2**32)))
        angle = np.deg2rad(rng.uniform(-turn, turn))
        zoom = rng.uniform(0.85, 1.15)
        self.size = SIZE * scale
        columns, rows = grid(self.size)
        shift = rng.uniform(-5, 5, 2).astype(np.float32) * scale
        self.unit = np.float32(40 * zoom * scale)
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        across, down = columns - shift[0], rows - shift[1]
        self.x = (cosine * across + sine * down) / self.unit
        self.y = (cosine * down - sine * across) / self.unit
        # Surfaces have no centre: they may start anywhere.
        start = rng.uniform(0, BANK, 2).astype(np.float32)
        self.u = self.x * (40 * scale) + start[0]
        self.v = self.y * (40 * scale) + start[1]
        self.words: dict[str, str] = {}

    def noise(self, layer: int, stretch_u: float = 1, stretch_v: float = 1) -> np.ndarray:
        """Noise fixed to the surface, (size, size), unit variance; stretch > 1 elongates it."""
        # A little of one axis in the other keeps a stretched noise from repeating as the bank does.
        rows = (self.v / stretch_v).astype(np.int32) & (BANK - 1)
        columns = (self.u / stretch_u).astype(np.int32) & (BANK - 1)
        return bank()[layer][rows, columns]

    def grain(self, layer: int) -> np.ndarray:
        """Noise fixed to the image, (size, size)."""
        return window(layer, self.size, self.rng)

    def colour(self, names: Sequence[str], slot: str = "colour") -> np.ndarray:
        """A colour near one of the named ones, (3,); its name becomes the word in `slot`."""
        name = names[int(self.rng.integers(len(names)))]
        self.words[slot] = name
        return self.shade(name)

    def shade(self, name: str) -> np.ndarray:
        """A colour near the named one, (3,)."""
        value = np.array(COLOURS[name], np.float32) * self.rng.uniform(0.88, 1.12)
        return value + self.rng.uniform(-0.03, 0.03, 3).astype(np.float32)

    def part(self, fault: str, count: int) -> int:
        """Which of `count` parts has the fault, or -1 where the picture is to be whole."""
        if self.fault != fault:
            return -1
        return int(self.fault_rng.integers(count))

    def coverage(self, signed: np.ndarray) -> np.ndarray:
        """Antialiased coverage in [0, 1] of the region where a signed distance (object units) is negative."""
        return np.clip(0.5 - signed * self.unit, 0, 1)


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    """A colour (3,) float32."""
    return np.array((red, green, blue), np.float32)


def paint(pixels: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Lay a colour (3,) or picture (size, size, 3) over `pixels` where coverage (size, size) is 1."""
    return pixels + coverage[..., None] * (colour - pixels)
