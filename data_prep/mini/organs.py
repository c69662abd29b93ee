"""Three scans of another kind than products: soft tissue, no edges to rely on (the second domain).

They stand where the paper has its medical datasets. They are drawings and say nothing about medicine.
"""

import numpy as np

from data_prep.mini.canvas import Canvas, paint, rgb
from data_prep.mini.objects import Drawing


def scan(canvas: Canvas) -> Drawing:
    """A grey slice: bright rim, folded tissue, two dark chambers, on black."""
    x, y = canvas.x, canvas.y
    canvas.words |= {"colour": "grey", "background": "black"}
    shape = (np.hypot(x / 0.82, y / 0.95) - 1) * 0.85
    tissue = 0.45 + 0.05 * canvas.grain(2) + 0.03 * canvas.grain(1)
    folds = 0.1 * np.exp(-6 * np.abs(np.sin(9 * np.hypot(x, y) + 1.2 * canvas.grain(3))))
    rim = 0.4 * np.exp(-((shape + 0.05) ** 2) / 0.0008)
    chambers = sum(np.exp(-(((x - s) / 0.09) ** 2 + (y / 0.24) ** 2)) for s in (-0.16, 0.16))
    value = tissue - folds + rim - 0.28 * chambers
    dark = np.full((*x.shape, 3), 0.05, np.float32)
    coverage = canvas.coverage(shape)
    return paint(dark, coverage, np.repeat(value[..., None], 3, axis=2)), coverage


def mucosa(canvas: Canvas) -> Drawing:
    """A pink, wet wall with folds, vessels and highlights, seen in a round field."""
    x, y = canvas.x, canvas.y
    canvas.words |= {"colour": "pink", "background": "black"}
    depth = np.hypot(x + canvas.rng.uniform(-0.3, 0.3), y + canvas.rng.uniform(-0.3, 0.3))
    folds = 0.09 * np.sin(9 * depth + 0.9 * canvas.grain(4))
    vessels = 0.16 * np.exp(-9 * np.abs(canvas.grain(3)))
    tone = 0.72 + 0.22 * np.clip(depth, 0, 1.2) + folds + 0.03 * canvas.grain(2)
    base = rgb(0.92, 0.52, 0.47) + canvas.rng.uniform(-0.05, 0.05, 3).astype(np.float32)
    value = base * tone[..., None]
    value[..., 1:] -= vessels[..., None]
    value = paint(value, 0.7 * np.clip(3 * (canvas.grain(1) - 2.3), 0, 1), rgb(1, 0.97, 0.95))
    coverage = canvas.coverage(np.hypot(x, y) - 1.12)
    return paint(np.full((*x.shape, 3), 0.04, np.float32), coverage, value), coverage


def speckle(canvas: Canvas) -> Drawing:
    """Layers of grainy grey echoes, darker with depth: the look of an ultrasound image."""
    y = canvas.y
    canvas.words |= {"colour": "grey", "background": "black"}
    layers = 0.12 * np.sin(canvas.v * 0.22 + 0.7 * canvas.noise(4, 4, 1))
    grains = 0.48 + 0.1 * canvas.noise(0, 2, 1) + 0.06 * canvas.noise(1, 3, 1)
    value = np.clip(grains + layers - 0.14 * y, 0.02, 1)
    return np.repeat(value[..., None], 3, axis=2), np.ones_like(y)
