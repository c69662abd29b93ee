"""Static pictures in one style. Compared maps share one colour scale from 0 to 1, never their own range."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from fap_lib.files import atomic
from fap_lib.images import load_image
from fap_lib.scoring import Scores

COLOURS = "cividis"  # readable with every kind of colour vision, and in grey

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's colours, told apart with every kind of colour vision."""

plt.rcParams.update(
    {
        "axes.prop_cycle": plt.cycler(color=PALETTE),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.size": 9,
        "axes.titlesize": 9,
        "image.cmap": COLOURS,
        "image.interpolation": "nearest",
        "figure.constrained_layout.use": True,
        "legend.frameon": False,
    }
)


def show(figure: Figure, alt: str, dpi: int = 80) -> None:
    """Display a figure in a notebook, small and with an alternative text, and close it.

    Stored pictures have at most 256 colours: a notebook with outputs must stay small.

    Args:
        alt: says what is to be seen, for those who do not see it; it is part of the stored output.
    """
    from IPython.display import display

    drawn, stored = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(256).save(stored, format="png", optimize=True)
    display(
        {"image/png": stored.getvalue(), "text/plain": alt}, raw=True, metadata={"image/png": {"alt": alt}}
    )


def heat_maps(scores: Scores, index: list[int], sigma: float) -> Figure:
    """One row an image: the image, its mask, and its anomaly map on the scale 0 to 1.

    Args:
        index: which images. sigma: smoothing of the maps in pixels.
    """
    cache = scores.cache
    maps = scores.maps(np.array(index), sigma)
    masks = cache.masks(np.array(index))
    figure, axes = plt.subplots(
        len(index), 3, figsize=(6.6, 2.2 * len(index)), squeeze=False, layout="constrained"
    )
    for row, position in zip(axes, index, strict=True):
        record = cache.records[position]
        place = index.index(position)
        row[0].imshow(load_image(cache.root / record.image, cache.image_size))
        row[0].set_title(f"{record.category}, {record.defect}", fontsize=8)
        row[1].imshow(masks[place], cmap="gray", vmin=0, vmax=1)
        row[1].set_title("mask" if record.mask or record.label == 0 else "no mask", fontsize=8)
        shown = row[2].imshow(maps[place], cmap=COLOURS, vmin=0, vmax=1)
        row[2].set_title(f"anomaly map, score {scores.image[position]:.2f}", fontsize=8)
        for axis in row:
            axis.set_axis_off()
    figure.colorbar(shown, ax=axes[:, 2], label="abnormal probability", shrink=0.8)
    return figure


def obtained_and_reported(comparison: pd.DataFrame, method: str) -> Figure:
    """Obtained means of one method beside reported ones: a panel a metric, a row a dataset, in per cent.

    Args:
        comparison: as `fap_lib.reported.compare` makes it.
    """
    rows = comparison[comparison["method"] == method]
    metrics = list(dict.fromkeys(zip(rows["level"], rows["metric"], strict=True)))
    datasets = list(dict.fromkeys(rows["dataset"]))
    figure, axes = plt.subplots(
        1,
        len(metrics),
        figsize=(9, 1.6 + 0.3 * len(datasets)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (level, metric) in zip(axes[0], metrics, strict=True):
        part = rows[(rows["level"] == level) & (rows["metric"] == metric)]
        place = part["dataset"].map(datasets.index)
        axis.barh(place, part["reported"].astype(float), color="0.8", label="reported")
        for marker, (mode, own) in zip("ox", part.groupby("mode", sort=False), strict=False):
            axis.plot(own["obtained"], own["dataset"].map(datasets.index), marker, label=f"obtained, {mode}")
        axis.set(xlim=(0, 100), xlabel="%", title=f"{level} {metric}", yticks=range(len(datasets)))
        axis.set_yticklabels(datasets)
    axes[0, 0].invert_yaxis()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def examples(scores: Scores, count: int = 4) -> list[int]:
    """Indices of a few images to look at: highest and lowest scores, spread over the ranking."""
    order = np.argsort(-scores.image, kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [int(order[place]) for place in dict.fromkeys(places)]


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as a PNG, atomically."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})
