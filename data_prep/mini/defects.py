"""Fifteen defects laid on normal images, with exact masks; the structural ones are the renderers' own.

A defect takes the pixels (S, S, 3), where the object is (S, S, bool), a random generator and a size factor,
and returns the damaged pixels and the mask of what it changed. Its size in pixels does not depend on S.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from data_prep.mini.canvas import COLOURS, SIZE, paint, rgb, window

Pixels: TypeAlias = np.ndarray
Where: TypeAlias = np.ndarray
Generator = np.random.Generator
Damage = tuple[np.ndarray, np.ndarray]

AREA = (0.008, 0.11)
"""Smallest and largest area of a blob, as a share of SIZE x SIZE; drawn evenly on a logarithmic scale."""


@cache
def _places(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every pixel, each (size, size) float32."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    return rows, columns


def scratch(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    distance = _path(where, rng, length=rng.uniform(34, 80) * size, wander=0.05)
    alpha = np.clip(rng.uniform(1.0, 1.9) - distance + 0.5, 0, 1)
    return _lay(pixels, where, alpha, _apart(pixels, where, alpha, rng))


def crack(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    distance = _path(where, rng, length=rng.uniform(36, 75) * size, wander=0.55, branches=2)
    alpha = np.clip(rng.uniform(1.1, 1.9) - distance + 0.5, 0, 1)
    return _lay(pixels, where, alpha, rgb(0.06, 0.05, 0.05))


def cut(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    distance = _path(where, rng, length=rng.uniform(22, 42) * size, wander=0.02)
    lips = np.clip(4.2 - distance, 0, 1)
    slit = np.clip(2.2 - distance, 0, 1)
    opened = paint(pixels, 0.75 * lips, rgb(0.95, 0.93, 0.9))
    return _finish(pixels, paint(opened, slit, rgb(0.05, 0.05, 0.05)), where & (lips > 0.3))


def thread(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    distance = _path(where, rng, length=rng.uniform(55, 95) * size, wander=0.07)
    alpha = np.clip(1.7 - distance + 0.5, 0, 1)
    colour = _other_colour(pixels, where, rng)
    round_ = colour * (1.15 - 0.25 * np.clip(distance, 0, 2))[..., None]
    return _finish(pixels, paint(pixels, alpha, round_), alpha > 0.4)


def hole(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    near = _blob(where, rng, size * 0.75, ragged=0.08)
    alpha = np.clip((1 - near) * 9, 0, 1)
    rim = np.exp(-((near - 1) ** 2) / 0.012)
    edged = pixels * (1 + 0.25 * rim)[..., None]
    return _finish(pixels, paint(edged, alpha, rgb(0.04, 0.04, 0.05)), where & (near < 1.05))


def stain(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    near = _blob(where, rng, size, ragged=0.3)
    alpha = rng.uniform(0.55, 0.85) * np.clip((1.05 - near) * 3, 0, 1)
    colour = rgb(*COLOURS[("brown", "yellow", "green")[rng.integers(3)]]) * rng.uniform(0.6, 0.9)
    # A stain soaks in: it colours the surface and leaves its pattern.
    return _finish(pixels, paint(pixels, alpha, pixels * colour * 1.25), where & (near < 0.95))


def ink(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    near = np.minimum(_blob(where, rng, size * 0.8, ragged=0.5), 1.2)
    alpha = 0.9 * np.clip((1 - near) * 8, 0, 1)
    colour = rgb(*COLOURS[("blue", "purple", "black", "red")[rng.integers(4)]]) * 0.55
    return _lay(pixels, where, alpha, colour)


def colour(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    near = _blob(where, rng, size, ragged=0.12)
    alpha = rng.uniform(0.7, 0.9) * np.clip((1 - near) * 6, 0, 1)
    tone = pixels.mean(2, keepdims=True) / max(float(pixels[where].mean()), 0.1)
    tinted = _other_colour(pixels, where, rng) * tone
    return _finish(pixels, paint(pixels, alpha, tinted), where & (alpha > 0.35))


def rust(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    near = _blob(where, rng, size, ragged=0.35)
    patchy = np.clip((1.1 - near) * 4, 0, 1) * np.clip(0.65 + 0.4 * window(1, len(where), rng), 0, 1)
    tone = np.clip(1 + 0.25 * window(0, len(where), rng), 0.5, 1.5)
    return _finish(pixels, paint(pixels, patchy, rgb(0.58, 0.25, 0.08) * tone[..., None]), where & (near < 1))


def dirt(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    near = _blob(where, rng, size * 1.2, ragged=0.3)
    specks = np.clip(4 * (window(1, len(where), rng) - 0.35), 0, 1) * (near < 1)
    shade = rng.uniform(0.08, 0.2)
    damaged = paint(pixels * (1 - 0.18 * (near < 1))[..., None], 0.9 * specks, shade * rgb(1, 0.9, 0.75))
    return _finish(pixels, damaged, where & (near < 1))


def burn(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    near = _blob(where, rng, size, ragged=0.25)
    halo = 0.75 * np.clip((1.15 - near) * 2.2, 0, 1)
    core = 0.9 * np.clip((0.62 - near) * 5, 0, 1)
    scorched = paint(pixels, halo, pixels * rgb(0.45, 0.28, 0.16))
    return _finish(pixels, paint(scorched, core, rgb(0.05, 0.04, 0.03)), where & (near < 1))


def dent(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    row, column, radius = _seat(where, rng, size)
    rows, columns = _places(len(where))
    dy, dx = (rows - row) / radius, (columns - column) / radius
    near = np.hypot(dx, dy)
    light = rng.uniform(0, 2 * np.pi)
    slope = (dx * np.cos(light) + dy * np.sin(light)) * np.exp(-2.2 * near**2)
    strength = rng.uniform(1.4, 2.1) * (1 if rng.random() < 0.8 else -1)
    return _finish(pixels, pixels * np.clip(1 + strength * slope, 0.15, 2)[..., None], where & (near < 1.1))


def glue(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    near = _blob(where, rng, size, ragged=0.3)
    body = 0.5 * np.clip((1 - near) * 8, 0, 1)
    rim = np.exp(-((near - 0.93) ** 2) / 0.006)
    gloss = np.exp(-((near - 0.45) ** 2) / 0.02) * (window(2, len(where), rng) > 0.2)
    damaged = paint(pixels, body, rgb(0.93, 0.9, 0.78)) * (1 - 0.3 * rim)[..., None]
    return _finish(pixels, paint(damaged, 0.8 * gloss, rgb(1, 1, 1)), near < 1)


def distortion(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    row, column, radius = _seat(where, rng, size * 1.5)
    rows, columns = _places(len(where))
    dy, dx = rows - row, columns - column
    near = np.hypot(dx, dy) / radius
    turn = rng.uniform(1.5, 2.4) * (1 if rng.random() < 0.5 else -1) * np.clip(1 - near, 0, 1) ** 1.2
    cosine, sine = np.cos(turn), np.sin(turn)
    last = len(where) - 1
    from_row = np.clip(np.rint(row + cosine * dy - sine * dx), 0, last).astype(np.int32)
    from_column = np.clip(np.rint(column + cosine * dx + sine * dy), 0, last).astype(np.int32)
    return _finish(pixels, pixels[from_row, from_column], where & (near < 0.85))


def chipped(pixels: Pixels, where: Where, rng: Generator, size: float) -> Damage:
    """A piece is gone: on an object the ground shows through at its edge, on a surface raw material does."""
    if where.mean() > 0.9:
        near = _blob(where, rng, size, ragged=0.6)
        raw = rgb(0.85, 0.83, 0.8) * (0.9 + 0.12 * window(1, len(where), rng))[..., None]
        return _finish(pixels, paint(pixels, (near < 1) * 0.9, raw), near < 1)
    ground = np.median(pixels[~where], axis=0)
    rim = where & ~_shrunk(where)
    near = _blob(rim, rng, max(size, 0.9) * 1.25, ragged=0.35)
    gone = where & (near < 1)
    pale = where & (near < 1.22) & ~gone
    damaged = np.where(gone[..., None], ground * (1 + 0.03 * window(1, len(where), rng))[..., None], pixels)
    damaged = np.where(pale[..., None], 0.45 * damaged + 0.55 * rgb(0.9, 0.88, 0.84), damaged)
    return _finish(pixels, damaged, gone | pale)


DEFECTS: dict[str, Callable[[Pixels, Where, Generator, float], Damage]] = {
    "scratch": scratch,
    "crack": crack,
    "cut": cut,
    "thread": thread,
    "hole": hole,
    "stain": stain,
    "ink": ink,
    "colour": colour,
    "rust": rust,
    "dirt": dirt,
    "burn": burn,
    "dent": dent,
    "glue": glue,
    "distortion": distortion,
    "chipped": chipped,
}


def _seat(where: Where, rng: Generator, size: float) -> tuple[float, float, float]:
    """Where a blob sits, a random place of `where`, and its radius in pixels."""
    places = np.flatnonzero(where)
    row, column = divmod(int(places[rng.integers(len(places))]), len(where))
    area = np.exp(rng.uniform(*np.log(AREA))) * size
    return float(row), float(column), float(np.sqrt(area * SIZE * SIZE / np.pi))


def _blob(where: Where, rng: Generator, size: float, ragged: float) -> np.ndarray:
    """Distance from a blob's centre in units of its radius (below 1: inside), with a ragged outline."""
    row, column, radius = _seat(where, rng, size)
    angle, aspect = rng.uniform(0, np.pi), rng.uniform(0.65, 1)
    rows, columns = _places(len(where))
    dx, dy = (columns - column) / radius, (rows - row) / radius
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = dy * np.cos(angle) - dx * np.sin(angle)
    near = np.hypot(along * aspect, across / aspect)
    return near + ragged * 0.35 * window(2 if radius < 9 else 3, len(where), rng)


def _path(where: Where, rng: Generator, length: float, wander: float, branches: int = 0) -> np.ndarray:
    """Distance in pixels of every pixel to a wandering line; `wander` is the turn a step, in radians."""
    places = np.flatnonzero(where)
    middle = np.array(divmod(int(places[rng.integers(len(places))]), len(where)), np.float32)
    steps = max(int(length / 3), 2)
    heading = rng.uniform(0, 2 * np.pi)
    turns = heading + np.cumsum(
        rng.normal(0, wander, steps) if wander > 0.3 else rng.normal(0, wander) + np.zeros(steps)
    )
    moves = 3 * np.stack([np.sin(turns), np.cos(turns)], 1)
    points = [middle + np.cumsum(moves, 0) - moves.sum(0) / 2]
    for _ in range(branches):
        at = int(rng.integers(steps))
        turn = turns[at] + rng.choice([-0.9, 0.9]) + np.cumsum(rng.normal(0, wander, max(steps // 3, 2)))
        points.append(points[0][at] + np.cumsum(3 * np.stack([np.sin(turn), np.cos(turn)], 1), 0))
    distance = np.full(where.shape, 99, np.float32)
    for line in points:
        for start, end in pairwise(line):
            _near_segment(distance, start, end)
    return distance


def _near_segment(distance: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
    """Lower `distance` to that of one short segment, in its neighbourhood only."""
    size = len(distance)
    low = np.floor(np.clip(np.minimum(start, end) - 6, 0, size)).astype(int)
    high = np.ceil(np.clip(np.maximum(start, end) + 7, 0, size)).astype(int)
    around = (slice(low[0], high[0]), slice(low[1], high[1]))
    rows, columns = (places[around] - origin for places, origin in zip(_places(size), start, strict=True))
    if not rows.size:
        return
    dy, dx = end - start
    along = np.clip((rows * dy + columns * dx) / max(dx * dx + dy * dy, 1e-6), 0, 1)
    np.minimum(distance[around], np.hypot(rows - along * dy, columns - along * dx), out=distance[around])


def _apart(pixels: Pixels, where: Where, alpha: np.ndarray, rng: Generator) -> np.ndarray:
    """A near-black or near-white that stands out from what it is drawn on."""
    inside = where & (alpha > 0)
    mean = float(pixels[inside].mean()) if inside.any() else 0.5
    pale = mean < 0.35 or (mean < 0.6 and rng.random() < 0.5)
    return rgb(0.93, 0.93, 0.92) if pale else rgb(0.08, 0.08, 0.08)


def _other_colour(pixels: Pixels, where: Where, rng: Generator) -> np.ndarray:
    """One of the named colours that lie far from the image's own."""
    own = pixels[where].mean(0)
    far = [value for value in COLOURS.values() if np.abs(rgb(*value) - own).sum() > 0.6]
    return rgb(*far[rng.integers(len(far))])


def _shrunk(where: Where) -> Where:
    inner = where.copy()
    inner[2:] &= where[:-2]
    inner[:-2] &= where[2:]
    inner[:, 2:] &= where[:, :-2]
    inner[:, :-2] &= where[:, 2:]
    return inner


def _lay(pixels: Pixels, where: Where, alpha: np.ndarray, colour_: np.ndarray) -> Damage:
    return _finish(pixels, paint(pixels, alpha * where, colour_), where & (alpha > 0.4))


def _finish(pixels: Pixels, damaged: Pixels, mask: Where) -> Damage:
    return np.where(mask[..., None], damaged, pixels), mask
