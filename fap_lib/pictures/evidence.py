"""Pictures of evidence: tables as colours, prompts and patches in a plane, differences with intervals."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fap_lib.lessons.study import COMPARED, METRICS
from fap_lib.pictures.prompts import SIGNED
from fap_lib.pictures.style import COLOURS, PALETTE


def table_map(axis: Axes, table: pd.DataFrame, label: str, low: float, high: float, digits: int = 0) -> None:
    """Draw a table as colours on a fixed scale, with its values written in per cent of it.

    Args:
        label: of the colour bar. digits: decimals of the written values, in hundredths.
    """
    values = table.to_numpy(dtype=float)
    shown = axis.imshow(values, cmap=SIGNED if low < 0 else COLOURS, vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        place = (value - low) / (high - low)
        light = 0.15 < place < 0.85 if low < 0 else place > 0.5
        text = (
            f"{100 * value:.{digits}f}".replace("-0", "0")
            if abs(value) < 0.005
            else f"{100 * value:.{digits}f}"
        )
        axis.text(
            column, row, text, ha="center", va="center", fontsize=7, color="black" if light else "white"
        )
    axis.set_xticks(range(len(table.columns)), table.columns, fontsize=7)
    axis.set_yticks(range(len(table.index)), table.index, fontsize=7)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.figure.colorbar(shown, ax=axis, label=label, shrink=0.8)


def in_plane(axis: Axes, groups: dict[str, np.ndarray], prompts: np.ndarray, labels: list[str]) -> None:
    """Draw groups of patches as points of a plane, and prompts as named marks.

    Args:
        groups: name to (n, 2); the first is drawn in grey. prompts: (1 + K, 2), the normal one first.
    """
    for number, (name, points) in enumerate(groups.items()):
        colour = "0.75" if number == 0 else PALETTE[number]
        axis.scatter(points[:, 0], points[:, 1], s=4, color=colour, label=name, linewidths=0, alpha=0.7)
    axis.scatter(prompts[:1, 0], prompts[:1, 1], marker="s", s=45, color="black", label="normal prompt")
    axis.scatter(prompts[1:, 0], prompts[1:, 1], marker="^", s=30, color="black", label="abnormality prompts")
    for point, place, name in zip(prompts[1:], _beside(axis, prompts[1:]), labels, strict=True):
        line = dict(arrowstyle="-", color="0.4", lw=0.6, shrinkA=1, shrinkB=1)
        axis.annotate(
            name,
            point,
            place,
            textcoords="offset points",
            fontsize=8,
            ha="center",
            va="center",
            arrowprops=line,
        )


def _beside(axis: Axes, points: np.ndarray, distance: float = 10) -> list[tuple[float, float]]:
    """Offsets in printer's points at which names beside points (n, 2) stay apart."""
    axis.autoscale_view()
    marks = axis.transData.transform(points) * 72 / axis.figure.dpi
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False) + np.pi / 8
    circle = distance * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    around = np.concatenate([circle, 2 * circle, 3 * circle])
    flat = np.array([0.6, 1.0])  # names are wider than high
    taken = list(marks)
    offsets = []
    for mark in marks:
        free = [min(np.hypot(*(flat * (mark + offset - other))) for other in taken) for offset in around]
        wide = np.flatnonzero(np.array(free) > 0.9 * distance)  # the nearest place with room, if there is one
        best = around[wide[0] if len(wide) else int(np.argmax(free))]
        taken.append(mark + best)
        offsets.append((float(best[0]), float(best[1])))
    return offsets


def differences(found: pd.DataFrame, order: list[str] | None = None, kind: str = "pooled") -> Figure:
    """Paired differences of methods as points with 95 % intervals, a panel a metric, around a zero line.

    Thick lines are intervals of one comparison, thin ones hold for all rows at once; small marks are cells.

    Args:
        found: as `ablations.differences` makes it. order: of the rows, from above; those without runs stay
            empty. kind: which half widths the thick lines have, `pooled` or `half`.
    """
    names = order or list(dict.fromkeys(found.method))
    figure, axes = plt.subplots(1, len(COMPARED), figsize=(7.2, 1.25 + 0.27 * len(names)), sharey=True)
    for axis, metric in zip(axes, COMPARED, strict=True):
        own = found[(found.metric == metric) & found.method.isin(names)]
        for row in own.itertuples():
            place = names.index(row.method)
            colour = PALETTE[0] if row.mean >= 0 else PALETTE[5]
            axis.hlines(place, row.mean - row.wide, row.mean + row.wide, color=colour, lw=0.8)
            half = getattr(row, kind)
            axis.hlines(place, row.mean - half, row.mean + half, color=colour, lw=3)
            axis.plot(row.cells, [place + 0.28] * len(row.cells), "|", color="0.45", ms=5)
            axis.plot(row.mean, place, "o", color=colour, mec="white", ms=6)
        axis.axvline(0, color="black", lw=0.8)
        ends = [abs(row.mean) + np.nanmax([row.wide, getattr(row, kind), 0]) for row in own.itertuples()]
        reach = 1.05 * max([2.0, *ends, *(abs(value) for cells in own.cells for value in cells)])
        axis.set(xlim=(-reach, reach), xlabel="difference, points", title=METRICS[metric])
    axes[0].set(yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6))
    axes[0].set_yticklabels(names)
    signs = {
        "gain": Line2D([], [], color=PALETTE[0], marker="o", ls="", ms=5),
        "loss": Line2D([], [], color=PALETTE[5], marker="o", ls="", ms=5),
        "95 % interval of one comparison": Line2D([], [], color="0.3", lw=3),
        "of all rows at once": Line2D([], [], color="0.3", lw=0.8),
        "one cell": Line2D([], [], color="0.45", marker="|", ls="", ms=5),
    }
    figure.legend(signs.values(), signs.keys(), loc="outside lower center", ncols=len(signs), fontsize=8)
    return figure


def moves(found: dict[str, dict[str, float]], method: dict[str, float], name: str) -> Figure:
    """How far choices move a figure, a row a choice and a panel a metric, beside what a method is worth.

    Args:
        found: choice to metric to difference in points; a metric that a choice cannot move is left out.
        method: metric to the method's own gain, drawn as a band around zero. name: of the method.
    """
    figure, axes = plt.subplots(1, len(method), figsize=(7.2, 1.1 + 0.27 * len(found)), sharey=True)
    for axis, (metric, gain) in zip(np.atleast_1d(axes), method.items(), strict=True):
        values = [row.get(metric, np.nan) for row in found.values()]
        axis.axvspan(-abs(gain), abs(gain), color="0.9", label=f"as large as {name}")
        axis.barh(range(len(found)), values, color=PALETTE[0], height=0.55)
        axis.axvline(0, color="black", lw=0.8)
        for place, value in enumerate(values):
            if not np.isnan(value):
                axis.annotate(
                    "0.0" if abs(value) < 0.05 else f"{value:+.1f}",
                    (value, place),
                    (3 if value >= 0 else -3, 0),
                    textcoords="offset points",
                    ha="left" if value >= 0 else "right",
                    va="center",
                    fontsize=7,
                )
        reach = 2 * max(abs(gain), *(abs(value) for value in values if not np.isnan(value)))
        axis.set(xlim=(-reach, reach), xlabel="points", title=metric)
    first = np.atleast_1d(axes)[0]
    first.set(yticks=range(len(found)), ylim=(len(found) - 0.4, -0.6))
    first.set_yticklabels(found)
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center")
    return figure


def scores_by_group(scores: np.ndarray, groups: np.ndarray, anomalous: np.ndarray) -> Figure:
    """Image scores from 0 to 1, a row a group: normal images above, anomalous ones below.

    Args:
        scores: (B,). groups: (B,) names, such as categories. anomalous: (B,) bool.
    """
    names = list(dict.fromkeys(groups))
    figure, axis = plt.subplots(figsize=(6.6, 0.8 + 0.34 * len(names)))
    for kind, marker, label in ((False, "|", "normal"), (True, "x", "anomalous")):
        own = anomalous == kind
        height = np.array([names.index(name) for name in groups[own]]) + (0.17 if kind else -0.17)
        axis.plot(scores[own], height, marker, color=PALETTE[int(kind)], markersize=5, label=label)
    axis.set(xlim=(-0.01, 1.01), xlabel="score", yticks=range(len(names)), yticklabels=names)
    axis.invert_yaxis()
    figure.legend(loc="outside upper right", ncols=2)
    return figure
