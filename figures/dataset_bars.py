"""Results dataset by dataset: the paper's tables over datasets, as bars.

Without a grid it shows the mini world's categories, from the study's runs, with 95 % intervals.
With a grid it shows that grid's datasets beside reported values.

Reads: `benchmarks/results/study.csv` (`python -m benchmarks.study`), or
`runs/grid-NAME/results/comparison.csv` (`make paper GRID=...`).

    python -m figures.dataset_bars [--grid runs/grid-paper]
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import study_tables
from fap_lib.core import paths
from fap_lib.evaluation.scoring import MEAN
from fap_lib.lessons import study
from fap_lib.pictures.style import PALETTE, obtained_and_reported
from figures import needed, run, save_figure

METRICS = ("image_auroc", "pixel_auroc")
LEARNED = (study.SINGLE, "CAP", study.FULL, study_tables.PROBE)


def values(results: pd.DataFrame) -> pd.DataFrame:
    """What the bars show: a row a test set, category, metric and method, with mean and half interval in %.

    The hand-written wording is the one that is best in the metric on validation.
    """
    best = {metric: study_tables.best_wording(results, metric) for metric in METRICS}
    rows = []
    for test in (study.TEST, study.ORGANS):
        own = results[(results.test == test) & ~results.category.str.startswith("defect: ")]
        for category in dict.fromkeys(own.category):
            part = study.of(results, test, category)
            for metric in METRICS:
                for method in (best[metric], *LEARNED):
                    mean, half = study.interval(part[part.method == method], metric)
                    name = "hand-written" if method.startswith(study_tables.HAND) else method
                    rows.append([test, category, metric, name, 100 * mean, 100 * half])
    return pd.DataFrame(rows, columns=["test", "category", "metric", "method", "mean", "half"])


def draw(results: pd.DataFrame) -> Figure:
    """A group of bars a category, a panel a metric; the means of the two test sets below.

    Args:
        results: the study's runs, as `study.load_study` reads them.
    """
    shown = values(results)
    shown["place"] = [
        f"{row.test}: mean" if row.category == MEAN else row.category for row in shown.itertuples()
    ]
    full = shown[(shown.method == study.FULL) & (shown.metric == METRICS[0])]
    order = full.sort_values(["test", "mean"], ascending=[False, True], kind="stable")
    places = [*order[order.category != MEAN].place, *order[order.category == MEAN].place]
    names = list(dict.fromkeys(shown.method))
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 8), sharey=True)
    height = 0.8 / len(names)
    for axis, metric in zip(axes, METRICS, strict=True):
        for number, name in enumerate(names):
            own = shown[(shown.metric == metric) & (shown.method == name)].set_index("place").loc[places]
            y = np.arange(len(places)) + (number - (len(names) - 1) / 2) * height
            axis.barh(y, own["mean"], height, color=PALETTE[number], label=name)
            axis.errorbar(own["mean"], y, xerr=own["half"], fmt="none", ecolor="black", elinewidth=0.8)
        axis.axvline(50, color="black", linewidth=0.8, linestyle=":")
        axis.set(xlim=(0, 100), xlabel=f"{study.METRICS[metric]}, %", yticks=range(len(places)))
    axes[0].set_yticklabels(places)
    axes[0].set_ylim(len(places) - 0.5, -0.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    return figure


def main(grid: str | None = None) -> list[Path]:
    """Draw results by category, or a grid's by dataset."""
    if grid is None:
        return save_figure(draw(study.load_study()), "dataset_bars")
    folder = paths.run(grid)
    path = needed(folder / "results" / "comparison.csv", f"make paper (for the grid of {grid})")
    return save_figure(obtained_and_reported(pd.read_csv(path), "faprompt"), f"dataset_bars-{folder.name}")


if __name__ == "__main__":
    run(main)
