"""Pictures of prompts: their layout, their directions, their maps, and the patches that shape them."""

from collections.abc import Sequence
from math import isqrt
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from fap_lib.data.features import FeatureCache
from fap_lib.data.images import load_image
from fap_lib.pictures.style import COLOURS, PALETTE, outline

SIGNED = "PuOr"
"""Colours of signed values; white is zero. Readable with every kind of colour vision."""


def layout(normal_tokens: int, abnormal_tokens: int, n_prompts: int, words: Sequence[str]) -> Figure:
    """The tokens of the normal and of the first, second and last abnormality prompt, a box each.

    Args:
        words: what stands between the abnormal tokens and the object, such as ("damaged",), and the object.
    """
    shared = [(f"V{number + 1}", PALETTE[4]) for number in range(normal_tokens)]
    rows: list[tuple[str, Sequence[str], list]] = [("normal", words[-1:], [])]
    for number, colour in zip(sorted({1, min(2, n_prompts), n_prompts}), PALETTE[1:], strict=False):
        own = [(f"A{place + 1}", _lighter(colour)) for place in range(abnormal_tokens)]
        rows.append((f"abnormal {number}", words, own))
    width = 3 + normal_tokens + abnormal_tokens + len(words)
    figure, axis = plt.subplots(figsize=(7.2, 0.5 + 0.42 * len(rows)))
    for row, (name, end, own) in enumerate(rows):
        axis.text(-0.2, row, name, ha="right", va="center", fontsize=8)
        fixed = [(word, "0.85") for word in (*end, ".", "[end]")]
        for place, (token, fill) in enumerate([("[start]", "0.85"), *shared, *own, *fixed]):
            _box(axis, place, row, token, fill)
    axis.set(xlim=(-2, width), ylim=(len(rows) - 0.5, -0.5))
    axis.set_axis_off()
    return figure


def _box(axis: Axes, place: int, row: int, token: str, fill: Any) -> None:
    style = "round,pad=0,rounding_size=0.1"
    axis.add_patch(
        FancyBboxPatch((place + 0.05, row - 0.3), 0.9, 0.6, style, facecolor=fill, edgecolor="0.3", lw=0.6)
    )
    axis.text(place + 0.5, row, token, ha="center", va="center", fontsize=6.5)


def _lighter(colour: str) -> tuple[float, ...]:
    return tuple((0.45 + 0.55 * np.array(to_rgb(colour))).tolist())


def arrows(axis: Axes, vectors: Tensor, title: str) -> None:
    """Draw vectors (K, 2) of length up to 1 as arrows from one point."""
    for number, (x, y) in enumerate(vectors.tolist()):
        style = dict(arrowstyle="-|>", color=PALETTE[number], lw=2, shrinkA=0, shrinkB=0)
        axis.annotate("", (x, y), (0, 0), arrowprops=style)
        axis.text(1.13 * x, 1.13 * y, str(number + 1), color=PALETTE[number], ha="center", va="center")
    axis.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal", title=title, xticks=[], yticks=[])
    axis.spines[["left", "bottom"]].set_visible(False)


def square(axis: Axes, values: Tensor, title: str) -> None:
    """Draw a matrix (K, K) of cosines or correlations on the scale -1 to 1, numbered from 1."""
    count = len(values)
    extent = (0.5, count + 0.5, count + 0.5, 0.5)
    shown = axis.imshow(values.numpy(), cmap=SIGNED, vmin=-1, vmax=1, extent=extent)
    axis.set(title=title, xlabel="prompt", ylabel="prompt")
    axis.figure.colorbar(shown, ax=axis, shrink=0.85)


def mark_patches(axis: Axes, chosen: Sequence[int], grid: int, size: int, colour: str = PALETTE[5]) -> None:
    """Outline patches on an image of `size` pixels.

    Args:
        chosen: raster indices on a grid x grid raster.
    """
    side = size / grid
    for place in chosen:
        corner = (place % grid * side - 0.5, place // grid * side - 0.5)
        for line, width in (("black", 1.8), (colour, 0.9)):
            axis.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=line, linewidth=width))


def picture(axis: Axes, cache: FeatureCache, index: int, title: str | None = None) -> None:
    """Draw an image with the outline of its mask, and name its category and defect."""
    record = cache.records[index]
    axis.imshow(load_image(cache.root / record.image, cache.image_size))
    mask = cache.masks(np.array([index]))[0]
    if mask.any():
        outline(axis, mask)
    axis.set_title(f"{record.category}, {record.defect}" if title is None else title)
    axis.set_axis_off()


def maps_beside(cache: FeatureCache, index: int, maps: dict[str, Tensor]) -> Figure:
    """One image, its mask, and some maps of it on one scale from 0 to 1.

    Args:
        maps: by title; abnormal probabilities of patches (N,), drawn as squares, or of pixels (H, W).
    """
    figure, axes = plt.subplots(1, 2 + len(maps), figsize=(1 + 1.7 * (2 + len(maps)), 2.1))
    record = cache.records[index]
    axes[0].imshow(load_image(cache.root / record.image, cache.image_size))
    axes[0].set_title(f"{record.category}, {record.defect}")
    axes[1].imshow(cache.masks(np.array([index]))[0].numpy(), cmap="gray", vmin=0, vmax=1)
    axes[1].set_title("mask")
    for axis, (title, values) in zip(axes[2:], maps.items(), strict=True):
        side = round(values.numel() ** 0.5)
        shown = axis.imshow(values.cpu().view(side, side).numpy(), cmap=COLOURS, vmin=0, vmax=1)
        axis.set_title(title)
    for axis in axes:
        axis.set_axis_off()
    figure.colorbar(shown, ax=axes, label="abnormal probability")
    return figure


def patch_map(axis: Axes, values: Tensor, title: str, signed: bool = False) -> None:
    """Draw patch values (N,) as squares: probabilities from 0 to 1, or signed differences from -1 to 1."""
    grid = isqrt(len(values))
    colours, low = (SIGNED, -1) if signed else (COLOURS, 0)
    axis.imshow(values.reshape(grid, grid).numpy(), cmap=colours, vmin=low, vmax=1)
    axis.set_title(title)
    axis.set_axis_off()


def each_prompt(cache: FeatureCache, index: Sequence[int], maps: Tensor, whole: Tensor) -> Figure:
    """For each image: itself, the map of every prompt, and the prototype's map, all from 0 to 1.

    Args:
        index: which images. maps: (B, K, N) of these images. whole: (B, N), the prototype's.
    """
    count = maps.shape[1]
    half = -(-count // 2)
    figure, axes = plt.subplots(
        2 * len(index), half + 1, figsize=(1.2 * (half + 1) + 0.6, 2.7 * len(index)), squeeze=False
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for row, place in enumerate(index):
        picture(axes[2 * row, 0], cache, place)
        patch_map(axes[2 * row + 1, 0], whole[row], "prototype")
        for number in range(count):
            axis = axes[2 * row + number // half, 1 + number % half]
            patch_map(axis, maps[row, number], f"prompt {number + 1}")
    figure.colorbar(axes[1, 0].images[0], ax=axes, label="abnormal probability", shrink=0.5)
    return figure


def before_and_after(cache: FeatureCache, index: Sequence[int], before: Tensor, after: Tensor) -> Figure:
    """For each image: itself, its map before and after on the scale 0 to 1, and their difference on -1 to 1.

    Args:
        index: which images. before, after: (B, N) of these images.
    """
    figure, axes = plt.subplots(len(index), 4, figsize=(7.2, 0.6 + 1.85 * len(index)), squeeze=False)
    for row, place in enumerate(index):
        picture(axes[row, 0], cache, place)
        patch_map(axes[row, 1], before[row], "static map")
        patch_map(axes[row, 2], after[row], "adapted map")
        patch_map(axes[row, 3], after[row] - before[row], "adapted - static", signed=True)
    below: dict[str, Any] = dict(location="bottom", aspect=30, pad=0.02)
    figure.colorbar(axes[0, 2].images[0], ax=axes[:, 1:3], label="abnormal probability", **below)
    figure.colorbar(axes[0, 3].images[0], ax=axes[:, 3:], label="difference", **below | {"aspect": 14})
    return figure


def length_histograms(groups: dict[str, tuple[np.ndarray, Tensor]]) -> Figure:
    """A panel a group: the lengths of the priors of normal and of anomalous images, in the same bins.

    Args:
        groups: title to labels (B,) in {0, 1} and lengths (B,).
    """
    bins = np.linspace(0, max(float(lengths.max()) for _, lengths in groups.values()), 30)
    figure, axes = plt.subplots(1, len(groups), figsize=(7.2, 2.4), sharex=True, sharey=True, squeeze=False)
    for axis, (title, (label, lengths)) in zip(axes[0], groups.items(), strict=True):
        for kind, word in enumerate(("normal", "anomalous")):
            axis.hist(lengths.numpy()[label == kind], bins=bins, alpha=0.6, density=True, label=word)
        axis.set(title=title, xlabel="length of the prior")
    axes[0, 0].set_ylabel("density")
    axes[0, 0].legend()
    return figure
