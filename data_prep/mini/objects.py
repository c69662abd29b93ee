"""Twelve objects on a plain ground. Each returns pixels (size, size, 3) and its coverage (size, size)."""

import numpy as np

from data_prep.mini.canvas import Canvas, paint, rgb

Drawing = tuple[np.ndarray, np.ndarray]

DARK = rgb(0.12, 0.12, 0.13)


def _ground(canvas: Canvas) -> np.ndarray:
    names = ("white", "grey", "black", "blue", "beige", "green")
    base = canvas.colour([name for name in names if name != canvas.words["colour"]], "background")
    return base * (1 + 0.025 * canvas.grain(3) + 0.015 * canvas.grain(1))[..., None]


def _place(canvas: Canvas, shape: np.ndarray, surface: np.ndarray) -> Drawing:
    """The object over its ground, with a soft shadow line where it meets it."""
    coverage = canvas.coverage(shape)
    shadow = 0.25 * np.exp(-np.clip(shape, 0, None) * 14)
    return paint(_ground(canvas) * (1 - shadow)[..., None], coverage, surface), coverage


def _letters(canvas: Canvas, x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """Coverage of a short print: upright strokes with gaps, inside a box around the origin."""
    code = canvas.rng.uniform(0, 6)
    strokes = (np.sin(x * 44 + code) > 0.1) & (np.sin(y * 30 + np.sign(np.sin(x * 11 + code))) > -0.6)
    return (strokes & (np.abs(x) < width) & (np.abs(y) < height)).astype(np.float32)


def capsule(canvas: Canvas) -> Drawing:
    x, y = canvas.x, canvas.y
    left, right = (
        canvas.colour(("red", "green", "blue", "orange")),
        canvas.colour(("white", "beige"), "detail"),
    )
    shape = np.hypot(np.maximum(np.abs(x) - 0.55, 0), y) - 0.42
    surface = np.where((x < 0)[..., None], left, right)
    light = 0.8 + 0.3 * np.exp(-((y + 0.17) ** 2) / 0.02) - 0.25 * np.clip(y, 0, 1)
    surface = paint(surface * light[..., None], 0.5 * np.clip(1 - np.abs(x) * 40, 0, 1), DARK)
    print_ = _letters(canvas, x - 0.45, y, 0.22, 0.09)
    return _place(canvas, shape, paint(surface, 0.75 * print_, DARK))


def nut(canvas: Canvas) -> Drawing:
    x, y = canvas.x, canvas.y
    base = canvas.colour(("grey", "yellow", "black", "beige"))
    hexagon = np.maximum(np.abs(x) * 0.866 + np.abs(y) * 0.5, np.abs(y)) - 0.8
    radius = np.hypot(x, y)
    hole = 0.42 - radius
    thread = np.exp(-((radius - 0.47) ** 2) / 0.0006)
    tone = (
        0.95 + 0.12 * np.sin(3 * np.arctan2(y, x)) * (radius > 0.66) - 0.35 * thread + 0.03 * canvas.grain(1)
    )
    return _place(canvas, np.maximum(hexagon, hole), base * tone[..., None])


def cap(canvas: Canvas) -> Drawing:
    x, y = canvas.x, canvas.y
    base = canvas.colour(("red", "blue", "green", "yellow", "black"))
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    shape = radius - (0.84 + 0.04 * np.cos(21 * angle))
    folds = 0.16 * np.cos(21 * angle) * np.clip((radius - 0.66) * 8, 0, 1)
    ring = 0.2 * np.exp(-((radius - 0.64) ** 2) / 0.0008)
    emblem = np.clip((0.3 + 0.1 * np.cos(5 * angle) - radius) * 20, 0, 1)
    surface = base * (0.95 + folds + ring + 0.02 * canvas.grain(1))[..., None]
    return _place(canvas, shape, paint(surface, 0.8 * emblem, canvas.colour(("white", "yellow"), "detail")))


def washer(canvas: Canvas) -> Drawing:
    base = canvas.colour(("grey", "yellow", "black", "orange"))
    radius = np.hypot(canvas.x, canvas.y)
    tone = 0.95 + 0.06 * np.sin(radius * 70) + 0.12 * np.sin(np.arctan2(canvas.y, canvas.x) * 2 + 1)
    return _place(canvas, np.maximum(radius - 0.85, 0.4 - radius), base * tone[..., None])


def chip(canvas: Canvas) -> Drawing:
    x, y = canvas.x, canvas.y
    base = canvas.colour(("black", "green", "blue"))
    pins = 5
    pitch = 1.5 / pins
    lost, bent = canvas.part("missing", 2 * pins), canvas.part("bent", 2 * pins)
    side = (x > 0).astype(np.int32)
    slot = np.clip(np.floor((y + 0.75) / pitch), 0, pins - 1)
    number = slot + pins * side
    offset = y + 0.75 - (slot + 0.5) * pitch
    if bent >= 0:
        # Slots are decided by the straight place, so the bent pin may lean into the gap beside it.
        centre = -0.75 + (bent % pins + 0.5) * pitch
        lean = np.clip((np.abs(x) - 0.5) * 0.75, 0, 1) * (1 if bent % 2 else -1)
        here = (np.abs(y - centre - lean) < 0.07) & (side == bent // pins)
        offset = np.where(number == bent, 1.0, offset)
        offset = np.where(here, 0.0, offset)
    leg = np.maximum(np.abs(offset) - 0.07, np.maximum(0.5 - np.abs(x), np.abs(x) - 0.86))
    leg = np.where(number == lost, 1.0, leg)
    body = np.maximum(np.abs(x) - 0.56, np.abs(y) - 0.82)
    surface = np.where((body < 0)[..., None], base, rgb(0.74, 0.74, 0.72))
    surface = surface * (1 + 0.03 * canvas.grain(1))[..., None]
    print_ = _letters(canvas, y, x - 0.05, 0.5, 0.1) * (body < 0)
    surface = paint(surface, 0.6 * print_, rgb(0.8, 0.8, 0.78))
    dot = canvas.coverage(np.hypot(x + 0.38, y + 0.62) - 0.08)
    return _place(canvas, np.minimum(body, leg), paint(surface, 0.6 * dot, rgb(0.8, 0.8, 0.78)))


def cable(canvas: Canvas) -> Drawing:
    x, y = canvas.x, canvas.y
    sheath = canvas.colour(("grey", "black", "white"))
    radius = np.hypot(x, y)
    surface = np.where((radius < 0.74)[..., None], rgb(0.82, 0.81, 0.78), sheath)
    surface = surface * (1 + 0.03 * canvas.grain(1))[..., None]
    colours = [canvas.shade(name) for name in ("green", "blue", "brown")]
    lost, swapped = canvas.part("missing", 3), canvas.part("swapped", 3)
    if swapped >= 0:
        colours[swapped] = colours[(swapped + 1) % 3]
    angles = canvas.rng.uniform(-0.2, 0.2) + np.arange(3) * 2 * np.pi / 3
    dx = x - 0.38 * np.cos(angles)[:, None, None]
    dy = y - 0.38 * np.sin(angles)[:, None, None]
    away = np.hypot(dx, dy)
    if lost >= 0:
        away[lost] = 9
    nearest = away.argmin(0)
    away = away.min(0)
    surface = paint(surface, canvas.coverage(away - 0.3), np.stack(colours)[nearest])
    strands = 0.85 + 0.2 * np.sin(x * 55) * np.sin(y * 55)
    surface = paint(surface, canvas.coverage(away - 0.19), rgb(0.80, 0.48, 0.26) * strands[..., None])
    return _place(canvas, radius - 0.88, surface)


def gear(canvas: Canvas) -> Drawing:
    x, y = canvas.x, canvas.y
    base = canvas.colour(("grey", "yellow", "black", "blue"))
    teeth = int(canvas.rng.integers(10, 14))
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    edge = 0.74 + 0.11 * np.tanh(4 * np.cos(teeth * angle))
    lost = canvas.part("missing", teeth)
    if lost >= 0:
        away = np.angle(np.exp(1j * (angle - lost * 2 * np.pi / teeth)))
        edge = np.where(np.abs(away) < np.pi / teeth, 0.63, edge)
    shape = np.maximum(radius - edge, 0.24 - radius)
    tone = (
        0.95
        + 0.05 * np.sin(radius * 50)
        + 0.1 * np.sin(angle * 2)
        - 0.25 * np.exp(-((radius - 0.5) ** 2) / 0.001)
    )
    return _place(canvas, shape, base * tone[..., None])


def button(canvas: Canvas) -> Drawing:
    x, y = canvas.x, canvas.y
    base = canvas.colour(("red", "blue", "green", "yellow", "pink", "white", "brown"))
    radius = np.hypot(x, y)
    tone = 0.95 + 0.16 * np.sin(np.clip((radius - 0.6) / 0.22, 0, 1) * np.pi) + 0.02 * canvas.grain(2)
    surface = base * tone[..., None]
    lost = canvas.part("missing", 4)
    holes = np.full_like(x, 1)
    for number in range(4):
        angle = np.pi / 4 + number * np.pi / 2
        if number != lost:
            np.minimum(holes, np.hypot(x - 0.26 * np.cos(angle), y - 0.26 * np.sin(angle)) - 0.1, out=holes)
    surface = paint(surface, canvas.coverage(holes), DARK)
    return _place(canvas, radius - 0.84, surface)


def cookie(canvas: Canvas) -> Drawing:
    x, y = canvas.x, canvas.y
    base = canvas.colour(("beige", "orange", "brown"))
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    wobble = canvas.rng.uniform(0, 6, 2)
    shape = radius - 0.8 - 0.025 * np.sin(3 * angle + wobble[0]) - 0.02 * np.sin(7 * angle + wobble[1])
    tone = 1.02 - 0.22 * radius**3 + 0.06 * canvas.grain(1) + 0.05 * canvas.grain(2)
    surface = base * tone[..., None]
    count = int(canvas.rng.integers(6, 10))
    # A sunflower's spiral spreads the chips without ever letting them pile up.
    number = np.arange(count)
    away, turn = 0.66 * np.sqrt((number + 0.5) / count), number * 2.4 + wobble[0]
    size = canvas.rng.uniform(0.06, 0.1, count)
    chips = np.full_like(x, 1)
    for column, row, radius_ in zip(away * np.cos(turn), away * np.sin(turn), size, strict=True):
        np.minimum(chips, np.hypot(x - column, y - row) - radius_, out=chips)
    surface = paint(surface, canvas.coverage(chips), rgb(0.2, 0.12, 0.08))
    return _place(canvas, shape, surface)


def pill(canvas: Canvas) -> Drawing:
    x, y = canvas.x, canvas.y
    base = canvas.colour(("white", "yellow", "pink", "orange", "teal"))
    shape = (np.hypot(x / 0.88, y / 0.62) - 1) * 0.7
    rim = np.clip(-shape * 7, 0, 1)
    tone = 0.78 + 0.22 * rim + 0.02 * canvas.grain(1)
    line = 0.3 * np.exp(-(x**2) / 0.0009) * (np.abs(y) < 0.4)
    freckles = 0.25 * np.clip(3 * (canvas.grain(0) - 1.9), 0, 1)
    return _place(canvas, shape, base * (tone - line - freckles)[..., None])


def coin(canvas: Canvas) -> Drawing:
    x, y = canvas.x, canvas.y
    base = canvas.colour(("yellow", "grey", "brown", "orange"))
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    head = np.exp(-((np.hypot(x * 1.3, y) - 0.36) ** 2) / 0.002)
    dots = np.clip(np.cos(24 * angle), 0, 1) * np.exp(-((radius - 0.62) ** 2) / 0.002)
    tone = 0.92 + 0.2 * np.exp(-((radius - 0.78) ** 2) / 0.0015) + 0.16 * head - 0.2 * dots
    tone += 0.1 * np.sin(angle + 0.8) + 0.02 * canvas.grain(1)
    return _place(canvas, radius - 0.85, base * tone[..., None])


def screw(canvas: Canvas) -> Drawing:
    x, y = canvas.x, canvas.y
    base = canvas.colour(("grey", "yellow", "black"))
    if canvas.part("bent", 1) >= 0:
        y = y - 0.3 * np.clip(x + 0.1, 0, None) ** 2
    thread = np.sin(x * 42 + 9 * y)
    shaft = np.maximum(np.abs(y) - 0.17 - 0.035 * thread, np.maximum(x - 0.92, -0.6 - x))
    tip = np.abs(y) - (0.95 - x) * 0.9
    head = np.maximum(np.abs(y) - 0.42, np.maximum(x + 0.5, -0.88 - x))
    tone = 0.9 + 0.22 * thread * (x > -0.5) + 0.3 * np.exp(-((y + 0.08) ** 2) / 0.01) - 0.25 * np.abs(y)
    return _place(canvas, np.minimum(np.maximum(shaft, tip), head), base * tone[..., None])
