"""Pictures of evidence: tables as colours, prompts and patches in a plane, differences with intervals."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    for (x, y), name in zip(prompts[1:], labels, strict=True):
        axis.annotate(name, (x, y), (3, 3), textcoords="offset points", fontsize=7)


def differences(found: pd.DataFrame, order: list[str] | None = None, kind: str = "pooled") -> Figure:
    """Paired differences of methods as points with 95 % intervals, a panel a metric, around a zero line.

    Thick lines are intervals of one comparison, thin ones hold for all rows at once; small marks are cells.

    Args:
        found: as `ablations.differences` makes it. order: of the rows, from above; those without runs stay
            empty. kind: which half widths the thick lines have, `pooled` or `half`.
    """
    names = order or list(dict.fromkeys(found.method))
    figure, axes = plt.subplots(1, len(COMPARED), figsize=(7.2, 0.9 + 0.27 * len(names)), sharey=True)
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
        reach = max([2.0, *(1.15 * (abs(row.mean) + row.pooled) for row in own.itertuples())])
        axis.set(xlim=(-reach, reach), xlabel="difference, points", title=METRICS[metric])
    axes[0].set(yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6))
    axes[0].set_yticklabels(names)
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
    axis.set(xlim=(0, 1), xlabel="score", yticks=range(len(names)), yticklabels=names)
    axis.invert_yaxis()
    figure.legend(loc="outside upper right", ncols=2)
    return figure
