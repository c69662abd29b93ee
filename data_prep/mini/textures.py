"""Twelve surfaces. Each fills the image; each returns its pixels (size, size, 3) in about [0, 1]."""

import numpy as np

from data_prep.mini.canvas import Canvas, paint, rgb


def wood(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("brown", "beige", "orange"))
    rings = np.sin(canvas.v * canvas.rng.uniform(0.25, 0.4) + 1.6 * canvas.noise(4, 3, 1))
    tone = 1 + 0.09 * rings + 0.08 * canvas.noise(1, 8, 1) + 0.04 * canvas.noise(0, 6, 1)
    return base * tone[..., None]


def marble(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("white", "grey", "green", "pink"))
    phase = (canvas.u + canvas.v) * canvas.rng.uniform(0.05, 0.09) + 1.5 * canvas.noise(4)
    veins = np.exp(-7 * np.abs(np.sin(phase + 0.4 * canvas.noise(2))))
    tone = 1 + 0.06 * canvas.noise(3) - 0.22 * veins
    return base * tone[..., None]


def fabric(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("red", "blue", "green", "grey", "beige", "purple"))
    frequency = canvas.rng.uniform(0.75, 1.0)
    a, b = canvas.u * frequency, canvas.v * frequency
    weave = np.where(np.sin(a) * np.sin(b) > 0, np.abs(np.sin(a)), np.abs(np.sin(b)))
    tone = 0.72 + 0.4 * weave + 0.05 * canvas.noise(2)
    lost = canvas.part("missing", 3)
    if lost >= 0:
        # A pulled thread leaves a dark line across the weave.
        place = canvas.v - canvas.v.mean() - (lost - 1) * 22
        tone = np.where(np.abs(place) < 2.2, 0.35 + 0.1 * weave, tone)
    return base * tone[..., None]


def grid_wires(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("grey", "white", "beige", "black"))
    grounds = ("brown", "green", "blue", "black", "beige")
    ground = canvas.colour([name for name in grounds if name != canvas.words["colour"]], "background")
    period = canvas.rng.uniform(15, 19)
    width = canvas.rng.uniform(2.0, 2.8)
    u, v = canvas.u - canvas.u.mean(), canvas.v - canvas.v.mean()
    bent = canvas.part("bent", 3)
    across = v
    if bent >= 0:
        bow = 8 * np.exp(-(u**2) / 200)
        across = v + np.where(np.abs(v - (bent - 1) * period) < period * 0.8, bow, 0)
    lost = canvas.part("missing", 3)
    near_u = np.abs((u + period / 2) % period - period / 2)
    near_v = np.abs((across + period / 2) % period - period / 2)
    if lost >= 0:
        gone = (np.abs(u - (lost - 1) * period) < period / 2) & (np.abs(v) < period * 1.1)
        near_u = np.where(gone, 9, near_u)
    wire = np.maximum(np.clip(width - near_u, 0, 1), np.clip(width - near_v, 0, 1))
    shine = 1 + 0.18 * (near_u - near_v) / period + 0.03 * canvas.noise(1)
    back = np.broadcast_to(ground, (*u.shape, 3)) * (1 + 0.05 * canvas.noise(2))[..., None]
    return paint(back, wire, base * shine[..., None])


def tile(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("white", "grey", "beige", "teal"))
    fleck = canvas.colour(("black", "brown", "blue", "red"), "detail")
    field = canvas.noise(1)
    flecks = np.clip(3 * (field - 1.1), 0, 1)
    pixels = np.broadcast_to(base, (*field.shape, 3)) * (1 + 0.05 * canvas.noise(2))[..., None]
    return paint(pixels, flecks, fleck)


def leather(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("brown", "black", "red", "beige"))
    creases = np.exp(-4 * np.abs(canvas.noise(2))) + 0.5 * np.exp(-5 * np.abs(canvas.noise(1)))
    tone = 1.08 - 0.22 * creases + 0.05 * canvas.noise(3)
    return base * tone[..., None]


def metal(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("grey", "white", "blue", "beige"))
    tone = 1 + 0.09 * canvas.noise(0, 20, 1) + 0.06 * canvas.noise(1, 30, 1)
    sheen = 0.12 * np.sin(canvas.u * 0.03 + canvas.rng.uniform(0, 6))
    return base * (tone + sheen)[..., None]


def perforated(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("grey", "white", "blue", "yellow"))
    period = canvas.rng.uniform(14, 17)
    radius = canvas.rng.uniform(3.6, 4.6)
    u, v = canvas.u - canvas.u.mean(), canvas.v - canvas.v.mean()
    column, row = np.round(u / period), np.round(v / period)
    distance = np.hypot(u - column * period, v - row * period)
    hole = np.clip(radius - distance + 0.5, 0, 1)
    lost = canvas.part("missing", 9)
    if lost >= 0:
        hole[(column == lost % 3 - 1) & (row == lost // 3 - 1)] = 0
    rim = np.exp(-((distance - radius - 1) ** 2))
    pixels = base * (1 + 0.1 * rim + 0.03 * canvas.noise(2))[..., None]
    return paint(pixels, hole, rgb(0.1, 0.1, 0.11))


def brick(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("red", "orange", "brown", "grey"))
    height, width = canvas.rng.uniform(15, 18), canvas.rng.uniform(30, 36)
    u, v = canvas.u - canvas.u.mean(), canvas.v - canvas.v.mean()
    row = np.floor(v / height)
    shifted = u + (row % 2) * width / 2
    column = np.floor(shifted / width)
    du, dv = shifted - column * width, v - row * height
    edge = np.minimum(np.minimum(du, width - du), np.minimum(dv, height - dv))
    # A tone of its own for every brick, from a hash of its place.
    own = np.sin(row * 12.9898 + column * 78.233) * 43758.5
    own = own - np.floor(own)
    pixels = base * (0.86 + 0.22 * own + 0.06 * canvas.noise(1))[..., None]
    odd, lost = canvas.part("swapped", 4), canvas.part("missing", 4)
    for which, name in ((odd, "white"), (lost, "black")):
        if which >= 0:
            here = (row == which % 2 - 1) & (column == which // 2 - 1)
            pixels[here] = canvas.shade(name) * (1 + 0.06 * canvas.noise(1)[here])[..., None]
    mortar = rgb(0.72, 0.70, 0.66) * (1 + 0.06 * canvas.noise(1))[..., None]
    return paint(pixels, np.clip(1.8 - edge, 0, 1), mortar)


def carpet(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("grey", "blue", "red", "green", "beige"))
    tufts = canvas.noise(0) + 0.6 * canvas.noise(1)
    tone = 0.9 + 0.15 * tufts + 0.05 * canvas.noise(3)
    return base * tone[..., None]


def concrete(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("grey", "beige", "white"))
    pores = np.clip(4 * (canvas.noise(0) - 2.1), 0, 1)
    tone = 1 + 0.05 * canvas.noise(3) + 0.05 * canvas.noise(2) + 0.04 * canvas.noise(0) - 0.4 * pores
    return base * tone[..., None]


def corrugated(canvas: Canvas) -> np.ndarray:
    base = canvas.colour(("beige", "grey", "blue", "green"))
    period = canvas.rng.uniform(9, 13)
    v = canvas.v
    bent = canvas.part("bent", 3)
    if bent >= 0:
        u, row = canvas.u - canvas.u.mean(), v - v.mean() - (bent - 1) * 20
        v = v + period * 0.8 * np.exp(-(u**2 + row**2) / 260)
    tone = 0.9 + 0.2 * np.sin(v * 2 * np.pi / period) + 0.04 * canvas.noise(2)
    return base * tone[..., None]
