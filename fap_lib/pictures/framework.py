"""The whole method in one picture, drawn by code. `figures/framework.py` writes it to files."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from fap_lib.pictures.style import COLOURS, PALETTE

ALT = (
    "Framework of FAPrompt. A frozen image tower makes patch features and a global feature. Learned prompts "
    "(CAP) pass a frozen text tower and give static text features, which give the static map. Its M most "
    "abnormal patches pass a learned network, psi, whose output, the prior, is added to the abnormal tokens "
    "(DAP). The adapted prompts pass the same text tower and give the adapted map and the image probability; "
    "the two maps and the probability make the anomaly map and the image score."
)
"""What the picture shows, for those who do not see it."""

# Fill and edge of each kind of box.
FROZEN = ("#CFE6F7", PALETTE[0])
LEARNED = ("#FBDCA0", "#B87400")
VALUE = ("#F2F2F2", "#666666")
LOSS = ("#FFFFFF", "#A8417F")
WIRE = "#333333"
WIDE, HIGH = 150, 118  # twentieths of an inch


def draw() -> Figure:
    """The framework: image, prompts, static map, prior, adapted prompts, maps, score and losses."""
    figure, axis = plt.subplots(figsize=(WIDE / 20, HIGH / 20), layout="none")
    axis.set(position=(0, 0, 1, 1), xlim=(0, WIDE), ylim=(0, HIGH))
    axis.set_axis_off()
    _wires(axis)
    _image_side(axis)
    _static_side(axis)
    _prior_side(axis)
    _adapted_side(axis)
    _results(axis)
    _legend(axis)
    return figure


def _image_side(axis: Axes) -> None:
    axis.add_patch(Rectangle((29, 99), 14, 14, facecolor="#9A9A9A", edgecolor="black", linewidth=0.8))
    axis.add_patch(Circle((36, 106), 5.5, facecolor="#D9CFC0", edgecolor="#555555", linewidth=0.8))
    axis.plot([34, 36, 37, 39.5], [108.5, 107, 104.5, 103.5], color="#5A2A0A", linewidth=1.6)
    axis.text(27.5, 106, "image", ha="right", va="center")
    _box(axis, (51, 97, 18, 18), "image\ntower", FROZEN)
    _box(axis, (86, 97, 22, 8), "patches (N, D)", VALUE)
    _box(axis, (129, 107, 20, 8), "global (D)", VALUE)


def _static_side(axis: Axes) -> None:
    _prompts(axis, 73, "CAP: learned prompts", adapted=False)
    _box(axis, (51, 74, 18, 16), "text\ntower", FROZEN)
    _box(axis, (74, 74, 17, 16), "static text:\nnormal,\nmean of K", VALUE)
    _map(axis, 76, "static\nmap S")
    _tag(axis, 82.5, 69.5, "orthogonal")
    _tag(axis, 113, 91.5, "focal, Dice with mask")


def _prior_side(axis: Axes) -> None:
    _box(axis, (102, 53, 22, 12), "", VALUE)
    _grid(axis, 103.2, 54.5, chosen=True)
    axis.text(118.3, 59, "top M\npatches", ha="center", va="center", size=8)
    _box(axis, (76, 53, 13, 12), "ψ", LEARNED, size=14)
    _box(axis, (51, 55, 18, 8), "prior ω", VALUE)
    _tag(axis, 60, 51, "0 if normal")
    axis.text(2.5, 63, "DAP: a prior from this image", va="center", weight="bold")


def _adapted_side(axis: Axes) -> None:
    _prompts(axis, 25, "adapted prompts", adapted=True)
    _box(axis, (51, 26, 18, 16), "text tower\n(the same)", FROZEN)
    _box(axis, (74, 26, 17, 16), "adapted\ntext", VALUE)
    _map(axis, 33, "adapted\nmap A")
    _box(axis, (131, 19, 18, 6.5), "probability p", VALUE)
    _tag(axis, 113, 49, "focal, Dice with mask")
    _tag(axis, 144.4, 36.5, "cross\nentropy")


def _results(axis: Axes) -> None:
    _box(axis, (70, 6, 30, 10), "anomaly map\n(S + A) / 2, smoothed", VALUE)
    _box(axis, (103, 6, 46, 10), "image score\n(p + (2 max S + max A) / 3) / 2", VALUE)
    _tag(axis, 126, 2.5, "focal")


def _wires(axis: Axes) -> None:
    """Arrows between the boxes; where one passes over another, it leaves a gap."""
    _arrow(axis, (43, 106), (51, 106))
    _arrow(axis, (69, 111), (129, 111))
    _arrow(axis, (69, 101), (86, 101))
    for y in (82, 34):
        _arrow(axis, (47, y), (51, y))
        _arrow(axis, (69, y), (74, y))
    _arrow(axis, (91, 82), (102, 82))  # static text to its map
    _arrow(axis, (91, 39), (102, 39))  # adapted text to its map
    _arrow(axis, (91, 30), (140, 30), (140, 25.5))  # and to the probability
    _arrow(axis, (140, 107), (140, 25.5))
    _arrow(axis, (113, 76), (113, 65))  # the static map chooses
    _arrow(axis, (102, 56), (89, 56))
    _arrow(axis, (97, 97), (97, 39), (102, 39))  # patches
    _arrow(axis, (97, 62), (102, 62))
    _arrow(axis, (76, 59), (69, 59))
    _arrow(axis, (50.8, 59), (18.2, 59), (18.2, 31.4), above=3)  # the prior shifts the abnormal tokens
    _arrow(axis, (124, 82), (128, 82), (128, 21), (85, 21), (85, 16))  # both maps to both results
    _arrow(axis, (113, 33), (113, 16))
    _arrow(axis, (140, 19), (140, 16))
    for x, y in ((97, 62), (113, 21)):
        axis.add_patch(Circle((x, y), 0.7, color=WIRE, zorder=1.9))
    for x, y in ((97, 82), (97, 39), (140, 30)):
        axis.add_patch(Circle((x, y), 2.4, facecolor="white", edgecolor=WIRE, linewidth=1, zorder=3))
        axis.text(x, y, "cos", ha="center", va="center_baseline", size=6.5, zorder=4)


def _arrow(axis: Axes, *points: tuple[float, float], above: float = 1) -> None:
    """An arrow along a path of straight pieces, over boxes if `above` is 3."""
    x, y = zip(*points, strict=True)
    axis.plot(x, y, color="white", linewidth=4, solid_capstyle="butt", zorder=above)
    axis.plot(x, y, color=WIRE, linewidth=1.1, solid_joinstyle="miter", zorder=above)
    axis.annotate(
        "",
        points[-1],
        points[-2],
        arrowprops={"arrowstyle": "-|>", "color": WIRE, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.1},
        zorder=above,
    )


def _legend(axis: Axes) -> None:
    for x, title, kind in ((2, "frozen", FROZEN), (19, "learned", LEARNED), (37, "computed", VALUE)):
        _box(axis, (x, 5, 4, 4), "", kind)
        axis.text(x + 5.5, 7, title, va="center", size=8)
    _tag(axis, 60, 7, "loss")


def _prompts(axis: Axes, y: float, title: str, adapted: bool) -> None:
    """A normal and an abnormality prompt, token by token."""
    _box(axis, (1, y, 46, 18), "", ("white", "#999999"))
    axis.text(21 if adapted else 2.5, y + 15.5, title, va="center", weight="bold")
    shared = (2, 10.5, r"$V_1 \ldots\, V_E$", LEARNED)
    own = (13, 10.5, r"$A + \omega$" if adapted else r"$A_1 \ldots\, A_{E'}$", LEARNED)
    damaged, thing = (24, 10.5, "damaged", FROZEN), (35, 7.8, "object.", FROZEN)
    for row, height in (((shared, thing), 8.2), ((shared, own, damaged, thing), 1.8)):
        for x, width, text, kind in row:
            _box(axis, (x, y + height, width, 4.6), text, kind, size=7.5 if "$" in text else 7)
    for height, text in ((10.5, "1"), (4.1, "K")):
        axis.text(44.9, y + height, f"\u00d7{text}", ha="center", va="center", size=7)


def _map(axis: Axes, y: float, title: str) -> None:
    _box(axis, (102, y, 22, 12), "", VALUE)
    _grid(axis, 103.2, y + 1.5, chosen=False)
    axis.text(118.3, y + 6, title, ha="center", va="center", size=8)


def _grid(axis: Axes, x: float, y: float, chosen: bool) -> None:
    """A sketch of a map on its grid of patches; the chosen patches framed."""
    values = np.full((6, 6), 0.15)
    values[1, 2] = values[2, 2] = values[2, 3] = values[3, 3] = 0.95
    axis.imshow(values, cmap=COLOURS, vmin=0, vmax=1, extent=(x, x + 9, y, y + 9), aspect="auto", zorder=3)
    if chosen:
        for row, column in zip(*np.nonzero(values > 0.5), strict=True):
            corner = (x + 1.5 * column, y + 9 - 1.5 * (row + 1))
            axis.add_patch(
                Rectangle(corner, 1.5, 1.5, fill=False, edgecolor=PALETTE[5], linewidth=1.4, zorder=4)
            )


def _box(
    axis: Axes, place: tuple[float, float, float, float], text: str, kind: tuple[str, str], size: float = 8.5
) -> None:
    """A rounded box at (x, y, width, height)."""
    x, y, width, height = place
    axis.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=1",
            facecolor=kind[0],
            edgecolor=kind[1],
            linewidth=1,
            zorder=2,
        )
    )
    axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", size=size, zorder=3)


def _tag(axis: Axes, x: float, y: float, text: str) -> None:
    """The name of a loss, beside what it acts on."""
    axis.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        size=7.5,
        color=LOSS[1],
        zorder=4,
        bbox={"boxstyle": "round,pad=0.25", "facecolor": LOSS[0], "edgecolor": LOSS[1], "linestyle": "--"},
    )
