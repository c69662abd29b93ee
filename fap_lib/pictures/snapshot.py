"""The explorer's view as a picture that needs no browser."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from fap_lib.pictures import marks
from fap_lib.pictures.marks import FALSE, FOUND, LEGEND, LINE, MISSED, SQUARE
from fap_lib.pictures.style import COLOURS, PALETTE
from fap_lib.pictures.views import Look, View, patch_grid, pixel_map, title


def picture(look: Look, view: View) -> Figure:
    """The explorer's view as a picture that needs no browser."""
    mask = pixel_map(look, view) >= view.threshold
    figure = plt.figure(figsize=(7.2, 4.1), layout="none")
    image, heat, both = (figure.add_axes((left, 0.4, 0.3, 0.53)) for left in (0.01, 0.35, 0.69))
    extent = (-0.5, look.size - 0.5, look.size - 0.5, -0.5)
    image.imshow(look.pixels)
    shown = heat.imshow(patch_grid(look, view), cmap=COLOURS, vmin=0, vmax=1, extent=extent)
    both.imshow(marks.compared(look.pixels, look.truth, mask))
    for axis in (image, heat):
        edges = marks.squares(look.ranking[: view.count], look.grid, look.size)
        axis.plot(*edges, color=SQUARE, linewidth=0.9)
        dots = marks.centres(look.read, look.grid, look.size)
        axis.plot(*dots, "o", color="white", markeredgecolor="black", markersize=4)
        axis.plot(*marks.outline(mask), color=LINE, linewidth=1.8)
    titles = ("image", title(view), "mask and ground truth")
    for axis, text in zip((image, heat, both), titles, strict=True):
        axis.set(title=text, xlim=extent[:2], ylim=extent[2:])
        axis.set_axis_off()

    signs = zip(("s", "o", "_"), (SQUARE, "white", LINE), LEGEND.values(), strict=True)
    for sign, colour, name in signs:
        edge = "black" if sign == "o" else colour
        face = "none" if sign == "s" else colour
        image.plot([], [], sign, color=face, markeredgecolor=edge, label=name)
    for colour, name in ((FOUND, "found"), (MISSED, "missed"), (FALSE, "false alarm")):
        both.plot([], [], "s", color=colour, label=name)
    for axis in (image, both):
        below = dict(bbox_to_anchor=(0.5, 0), ncols=2, fontsize=8, handletextpad=0.2, columnspacing=0.8)
        axis.legend(loc="upper center", **below)
    scale = figure.add_axes((0.37, 0.37, 0.26, 0.02))
    figure.colorbar(shown, cax=scale, orientation="horizontal", label="abnormal probability")

    bars = figure.add_axes((0.22, 0.1, 0.76, 0.15))
    numbers = {**look.parts, "image score": look.score}
    bars.barh(list(numbers), list(numbers.values()), color=["0.75"] * len(look.parts) + [PALETTE[0]])
    bars.axvline(view.threshold, color=LINE, linewidth=1.8)
    bars.set(xlim=(0, 1), xlabel="abnormal probability; the line is the threshold")
    return figure
