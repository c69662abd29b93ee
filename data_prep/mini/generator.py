"""One image of the mini world: a category, perhaps a defect, a random pose and camera; and its exact mask."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_closing

from data_prep.mini import objects, organs, textures
from data_prep.mini.canvas import SIZE, STRUCTURAL, Canvas, grid, window
from data_prep.mini.defects import DEFECTS
from fap_lib.core.errors import KitError, nearest


@dataclass(frozen=True)
class Category:
    """A kind of thing. draw: its renderer. surface: it fills the image. turn: largest rotation in degrees.

    faults: the structural defects its renderer knows. lacks: defects that nobody could see on it.
    """

    draw: Callable
    surface: bool
    turn: float
    faults: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


# A pattern without direction looks the same when it is twisted.
UNDIRECTED = ("distortion",)

CATEGORIES = {
    "wood": Category(textures.wood, True, 15),
    "marble": Category(textures.marble, True, 180, lacks=UNDIRECTED),
    "fabric": Category(textures.fabric, True, 15, ("missing",)),
    "grid": Category(textures.grid_wires, True, 10, ("missing", "bent")),
    "tile": Category(textures.tile, True, 180, lacks=UNDIRECTED),
    "leather": Category(textures.leather, True, 180, lacks=UNDIRECTED),
    "metal": Category(textures.metal, True, 15),
    "perforated": Category(textures.perforated, True, 10, ("missing",)),
    "brick": Category(textures.brick, True, 6, ("missing", "swapped")),
    "carpet": Category(textures.carpet, True, 180, lacks=UNDIRECTED),
    "concrete": Category(textures.concrete, True, 180, lacks=UNDIRECTED),
    "corrugated": Category(textures.corrugated, True, 20, ("bent",)),
    "capsule": Category(objects.capsule, False, 30),
    "nut": Category(objects.nut, False, 180),
    "cap": Category(objects.cap, False, 180),
    "washer": Category(objects.washer, False, 180),
    "chip": Category(objects.chip, False, 12, ("missing", "bent")),
    "cable": Category(objects.cable, False, 30, ("missing", "swapped")),
    "gear": Category(objects.gear, False, 180, ("missing",)),
    "button": Category(objects.button, False, 180, ("missing",)),
    "cookie": Category(objects.cookie, False, 180),
    "pill": Category(objects.pill, False, 30),
    "coin": Category(objects.coin, False, 180),
    "screw": Category(objects.screw, False, 25, ("bent",)),
    "scan": Category(organs.scan, False, 8),
    "mucosa": Category(organs.mucosa, False, 180),
    "speckle": Category(organs.speckle, True, 8),
}

KINDS = (*DEFECTS, *STRUCTURAL)

ATTEMPTS = 30
SEEN = 0.04
"""Least mean change of a defect's pixels, in [0, 1]; a fainter one is drawn again."""

LEAST = 0.003 * SIZE**2
"""Least pixels of a mask; a smaller one is drawn again."""


@dataclass(frozen=True)
class Sample:
    """pixels: (S, S, 3) uint8 RGB. mask: (S, S) bool, all False for a normal image.

    foreground: (S, S) bool, where the object is. words: what its look may be called.
    """

    pixels: np.ndarray
    mask: np.ndarray
    foreground: np.ndarray
    words: dict[str, str]


def kinds_of(category: str) -> tuple[str, ...]:
    """The defects that can be drawn on a category.

    Raises:
        KitError: unknown category.
    """
    entry = _category(category)
    return (*(kind for kind in DEFECTS if kind not in entry.lacks), *entry.faults)


def sample(
    category: str, kind: str | None, seed: int | list[int], size: float = 1.0, scale: int = 1
) -> Sample:
    """Draw one image; the same arguments give the same image.

    Args:
        category: a name in `CATEGORIES`. kind: a defect of `kinds_of(category)`, or None for a normal image.
        seed: whatever `numpy.random.default_rng` takes. size: factor on the defect's area or length.
        scale: the image has SIZE * scale pixels a side, and a defect no more pixels than at scale 1. A
            structural one is the exception, on an object: it grows with the object.

    Raises:
        KitError: unknown category or defect, or one that this category cannot have.
    """
    entry = _category(category)
    if kind is not None and kind not in kinds_of(category):
        _refuse("defect", kind, kinds_of(category), f" of {category}")
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([*np.atleast_1d(seed), attempt])
        pixels, foreground, words = _draw(entry, rng, None, scale)
        mask = np.zeros_like(foreground)
        if kind in STRUCTURAL:
            again = np.random.default_rng([*np.atleast_1d(seed), attempt])
            damaged, covered, _ = _draw(entry, again, kind, scale)
            # What the fault changed visibly; closing fills the gaps between the strands of one change.
            gap = 3 if entry.surface else 3 * scale
            mask = binary_closing(np.abs(damaged - pixels).max(2) > 0.08, iterations=gap)
            pixels, foreground = damaged, foreground | covered
        elif kind is not None:
            damaged, mask = DEFECTS[kind](pixels, foreground, rng, size)
            if mask.any() and np.abs(damaged - pixels)[mask].mean() < SEEN:
                continue  # a black hole in black: nobody could find it
            pixels = damaged
        if kind is None or mask.sum() >= LEAST:
            return Sample(_camera(pixels, rng), mask, foreground, words)
    raise KitError(
        f"no visible defect {kind!r} could be drawn on {category} with size {size}; use a larger size."
    )


def _draw(
    entry: Category, rng: np.random.Generator, fault: str | None, scale: int
) -> tuple[np.ndarray, np.ndarray, dict]:
    canvas = Canvas(rng, entry.turn, fault, scale)
    drawn = entry.draw(canvas)
    if isinstance(drawn, tuple):
        return drawn[0], drawn[1] > 0.5, canvas.words
    return drawn, np.ones(drawn.shape[:2], bool), canvas.words


def _camera(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light, white balance, focus and sensor noise; (S, S, 3) uint8."""
    size = len(pixels)
    columns, rows = grid(size)
    slope = rng.uniform(-0.1, 0.1, 2) / (size / 2)
    light = rng.uniform(0.88, 1.1) + slope[0] * columns + slope[1] * rows
    balance = rng.uniform(0.95, 1.05, 3).astype(np.float32)
    pixels = pixels * light[..., None].astype(np.float32) * balance
    if rng.random() < 0.35:
        weight = np.float32(rng.uniform(0.1, 0.25))
        for axis in (0, 1):
            pixels = (1 - 2 * weight) * pixels + weight * (
                np.roll(pixels, 1, axis) + np.roll(pixels, -1, axis)
            )
    white = window(0, size, rng)
    noise = rng.uniform(0.004, 0.02) * white[..., None]
    return (np.clip(pixels + noise, 0, 1) * 255 + 0.5).astype(np.uint8)


def _category(name: str) -> Category:
    if name not in CATEGORIES:
        _refuse("category", name, tuple(CATEGORIES))
    return CATEGORIES[name]


def _refuse(what: str, name: str, known: tuple[str, ...], of: str = "") -> None:
    near = nearest(name, known)
    raise KitError(
        f"unknown {what} {name!r}{of}; the nearest known one is {near!r} (known: {', '.join(known)})."
    )
