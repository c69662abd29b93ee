"""A page of the mini world: for each category two normal images and three with defects. Not in the paper.

Reads nothing: the images are generated.

    python -m figures.mini_samples [--publish]
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from data_prep.mini.generator import CATEGORIES, kinds_of, sample
from figures import run, save_figure

NORMAL, DEFECTIVE, COLUMNS = 2, 3, 3


def strip(category: str, number: int) -> tuple[np.ndarray, str]:
    """The category's images side by side, (H, W, 3) uint8, and the names of their defects."""
    kinds = kinds_of(category)
    chosen = [kinds[(number * DEFECTIVE + i) % len(kinds)] for i in range(DEFECTIVE)]
    if CATEGORIES[category].faults:
        chosen[-1] = CATEGORIES[category].faults[0]
    images = [sample(category, None, [1, number, i]).pixels for i in range(NORMAL)]
    images += [sample(category, kind, [2, number, i], 1.3).pixels for i, kind in enumerate(chosen)]
    return np.concatenate(images, axis=1), ", ".join(chosen)


def draw() -> Figure:
    """A strip of images a category."""
    rows = -(-len(CATEGORIES) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(5 * COLUMNS, 1.25 * rows))
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (category, axis) in enumerate(zip(CATEGORIES, axes.flat, strict=False)):
        picture, kinds = strip(category, number)
        axis.imshow(picture)
        axis.set_title(f"{category}: normal, normal, {kinds}", fontsize=8)
    return figure


def main(publish: bool = False) -> list[Path]:
    """Draw the page of samples."""
    return save_figure(draw(), "mini_samples", "jpg" if publish else None, dpi=100)


if __name__ == "__main__":
    run(main)
