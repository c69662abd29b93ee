"""Static pictures in one style. Compared maps share one colour scale from 0 to 1, never their own range."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from fap_lib.core.files import atomic
from fap_lib.core.inline import image_tag
from fap_lib.core.progress import watched
from fap_lib.data.images import load_image
from fap_lib.evaluation.scoring import Scores

COLOURS = "cividis"  # readable with every kind of colour vision, and in grey

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's colours, told apart with every kind of colour vision."""

METRICS = {"auroc": "AUROC", "ap": "AP", "aupro_official": "AUPRO"}
"""Metrics as axes name them."""

STORED_DPI, SHOWN_DPI = 144, 100
"""Pixels an inch in a notebook's stored pictures, and the size at which a browser shows them."""

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


def outline(axis: Axes, mask: np.ndarray | Tensor) -> None:
    """Draw the outline of a mask (H, W): white on black, to be seen on an image of any colour."""
    for colour, width in (("black", 2.6), ("white", 1.2)):
        axis.contour(np.asarray(mask), levels=[0.5], colors=colour, linewidths=width)


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook, with an alternative text, and close it.

    The output is HTML: Jupyter and nbconvert drop the alternative text of a plain picture. Stored pictures
    have more pixels than they are shown with, for sharp lines on good screens and in print, and at most 256
    colours: a notebook with outputs must stay small.

    Args:
        alt: says what is to be seen, for those who do not see it.
    """
    from IPython.display import display

    drawn, stored = io.BytesIO(), io.BytesIO()
    width = round(SHOWN_DPI * figure.get_size_inches()[0])
    figure.savefig(drawn, format="png", dpi=STORED_DPI)
    plt.close(figure)
    picture = Image.open(drawn).convert("RGB")
    # The other methods dull a colour that few pixels have, such as that of a thin line.
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=8).save(stored, format="png", optimize=True)
    display({"text/html": image_tag(stored.getvalue(), alt, width), "text/plain": alt}, raw=True)


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


def gallery(scores: Scores, index: list[int], sigma: float) -> Figure:
    """One column an image: the image with the outline of its mask, and below it its anomaly map, 0 to 1.

    Args:
        index: which images, at least one. sigma: smoothing of the maps in pixels.
    """
    cache = scores.cache
    maps, masks = scores.maps(np.array(index), sigma).numpy(), cache.masks(np.array(index)).numpy()
    figure, axes = plt.subplots(2, len(index), figsize=(0.6 + 1.6 * len(index), 3.9), squeeze=False)
    for place, (upper, lower) in enumerate(axes.T):
        record = cache.records[index[place]]
        upper.imshow(load_image(cache.root / record.image, cache.image_size))
        if masks[place].any():
            outline(upper, masks[place])
        upper.set_title(f"{record.category}\n{record.defect}", fontsize=8)
        shown = lower.imshow(maps[place], cmap=COLOURS, vmin=0, vmax=1)
        lower.set_title(f"score {scores.image[index[place]]:.2f}", fontsize=8)
        upper.set_axis_off()
        lower.set_axis_off()
    figure.colorbar(shown, ax=axes[:, -1], label="abnormal probability")
    return figure


def loss_curves(log: list[dict[str, Any]]) -> Figure:
    """One panel a term of the training loss: each step, and the mean of each epoch at its middle.

    Args:
        log: lines of `training.jsonl`, at least one.
    """
    table = pd.DataFrame(log)
    names = [name for name in log[0] if name not in ("step", "epoch", "seconds", "total")]
    figure, axes = plt.subplots(2, -(-len(names) // 2), figsize=(7.2, 3.6), squeeze=False, sharex=True)
    means = table.groupby("epoch").mean(numeric_only=True)
    for axis, name in zip(axes.flat, names, strict=False):
        axis.plot(table["step"], table[name], color="0.8", linewidth=0.8, label="a step")
        axis.plot(means["step"], means[name], "o-", markersize=3, label="mean of an epoch")
        axis.set(title=name, ylim=(0, None))
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("loss, before its weight", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def live_curves(every: float = 2.0) -> Callable[[dict[str, Any]], None] | None:
    """Something for `train` to call, which redraws the curves while a person looks; else None.

    Args:
        every: seconds between two pictures.
    """
    if not watched():
        return None
    from IPython.display import DisplayHandle

    handle, log, drawn = DisplayHandle(), [], [0.0]

    def follow(line: dict[str, Any]) -> None:
        log.append(line)
        if time.monotonic() - drawn[0] > every:
            figure = loss_curves(log)
            (handle.update if drawn[0] else handle.display)(figure)
            plt.close(figure)
            drawn[0] = time.monotonic()

    return follow


def dataset_bars(means: pd.DataFrame, level: str, metric: str) -> Figure:
    """Means over categories in per cent: a group of bars a dataset, a bar a method; "none" for no value.

    Args:
        means: rows of `fap_lib.grids.results.over_seeds` with a column `name` that tells methods apart.
    """
    chosen = means[(means["level"] == level) & (means["metric"] == metric)]
    wide = 100 * chosen.pivot_table(index="dataset", columns="name", values="mean", sort=False)
    colours = [PALETTE[i % len(PALETTE)] for i in range(wide.shape[1])]
    figure, axis = plt.subplots(figsize=(7.2, 3.2))
    wide.plot.bar(ax=axis, color=colours, width=0.8, rot=0, edgecolor="white", linewidth=0.5)
    for bars in axis.containers[len(PALETTE) :]:  # colours begin again
        plt.setp(bars, hatch="///")
    for bars, values in zip(axis.containers, wide.to_numpy().T, strict=True):
        for bar, value in zip(bars, values, strict=True):
            if np.isnan(value):  # else it would look like zero
                axis.text(bar.get_x() + bar.get_width() / 2, 1, "none", rotation=90, ha="center", fontsize=6)
    axis.set(ylim=(0, 100), xlabel="tested on", ylabel=f"{level} {METRICS.get(metric, metric)}, %")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return figure


def obtained_and_reported(comparison: pd.DataFrame, method: str) -> Figure:
    """Obtained means of one method beside reported ones: a panel a metric, a row a dataset, in per cent.

    Args:
        comparison: as `fap_lib.grids.compare.compare` makes it.
    """
    rows = comparison[comparison["method"] == method]
    metrics = list(dict.fromkeys(zip(rows["level"], rows["metric"], strict=True)))
    datasets = list(dict.fromkeys(rows["dataset"]))
    figure, axes = plt.subplots(
        1,
        len(metrics),
        figsize=(7.5, 1.6 + 0.3 * len(datasets)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (level, metric) in zip(axes[0], metrics, strict=True):
        part = rows[(rows["level"] == level) & (rows["metric"] == metric)]
        place = part["dataset"].map(datasets.index)
        axis.barh(place, part["reported"].astype(float), color="0.8", label="reported")
        ways = part.groupby(["title", "mode"], sort=False)
        for marker, ((title, mode), own) in zip("ox^v", ways, strict=False):
            name = mode if title == "FAPrompt" else title
            axis.plot(own["obtained"], own["dataset"].map(datasets.index), marker, label=f"obtained, {name}")
        axis.set(
            xlim=(0, 100),
            xlabel="%",
            title=f"{level} {METRICS.get(metric, metric)}",
            yticks=range(len(datasets)),
        )
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


def failures(scores: Scores, label: int, count: int = 4, each: int = 2) -> list[int]:
    """Indices of the normal images with the highest scores (label 0) or the anomalous with the lowest (1).

    Args:
        count: how many at most, and `each` of one category. There may be fewer, or none.
    """
    labels = scores.cache.labels
    taken: list[int] = []
    categories: list[str] = []
    for i in np.argsort(scores.image if label else -scores.image, kind="stable").tolist():
        category = scores.cache.records[i].category
        if labels[i] == label and categories.count(category) < each:
            taken.append(i)
            categories.append(category)
        if len(taken) == count:
            break
    return taken


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as a PNG, atomically."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})
