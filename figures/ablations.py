"""What each part is worth: the paper's ablations of CAP, DAP, orthogonality and the prior's loss, as bars.

Bars are paired differences to the full method (same data, same seed) in points, whiskers 95 % intervals over
auxiliary sets and draws of the data; for methods with few runs, from the spread that all swept methods share.

Reads: `benchmarks/results/study.csv` (`python -m benchmarks.study`, and with `--sweeps`).

    python -m figures.ablations [--publish]
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import study_tables
from fap_lib.core.numbers import plus_minus
from fap_lib.lessons import study
from fap_lib.pictures.style import PALETTE
from figures import run, save_figure

ROWS = {
    "best hand-written wording": study_tables.HAND,
    "one prompt, no DAP": study.SINGLE,
    "CAP, no DAP": "CAP",
    "CAP + DAP, released patches": "CAP + DAP, released",
    "CAP + DAP, random patches": "CAP + DAP, random patches",
    "no orthogonality loss": "no orthogonality",
    "no prior loss": "no prior loss",
    "no image cross-entropy": "no image cross-entropy",
    "no deep tokens": "no deep tokens",
    "no word for damage": "no word for damage",
    "with a logit bias": "CAP + DAP, bias",
}
"""What the figure calls a method, and the study's name of it."""


def values(results: pd.DataFrame, test: str = study.TEST) -> pd.DataFrame:
    """What the bars show: a row a method and metric; mean and half interval of the difference, in points.

    Methods without runs are left out. The hand-written wording is the best in the metric on validation.
    """
    few = study.differences(results, study.SWEPT, study.FULL, test).set_index(["method", "metric"])
    known, rows = set(results.method), []
    for title, name in ROWS.items():
        for metric in study.COMPARED:
            method = study_tables.best_wording(results, metric) if name == study_tables.HAND else name
            if (method, metric) in few.index:
                mean, half = few.loc[(method, metric), ["mean", "pooled"]]
            elif method in known:
                mean, half = (
                    100 * value for value in study_tables.gain(results, study.FULL, method, metric, test)
                )
                mean = -mean
            else:
                continue
            rows.append([title, method, metric, mean, half])
    return pd.DataFrame(rows, columns=["title", "method", "metric", "mean", "half"])


def draw(results: pd.DataFrame) -> Figure:
    """A row a method, a panel a metric.

    Args:
        results: the study's runs, as `study.load_study` reads them.
    """
    shown = values(results)
    titles = list(dict.fromkeys(shown.title))
    figure, axes = plt.subplots(1, 3, figsize=(7.5, 0.9 + 0.27 * len(titles)), sharex=True, sharey=True)
    for axis, metric in zip(axes, study.COMPARED, strict=True):
        own = shown[shown.metric == metric].set_index("title").loc[titles]
        colours = [PALETTE[0] if mean >= 0 else PALETTE[1] for mean in own["mean"]]
        axis.barh(range(len(titles)), own["mean"], 0.7, color=colours)
        axis.errorbar(own["mean"], range(len(titles)), xerr=own["half"], fmt="none", ecolor="black", lw=1)
        axis.axvline(0, color="black", linewidth=0.8)
        mean, half = (100 * value for value in full(results, metric))
        axis.set(
            title=f"{study.METRICS[metric]}\nfull method: {plus_minus(mean, half)} %",
            xlabel="difference, points",
        )
    axes[0].set(yticks=range(len(titles)), ylim=(len(titles) - 0.5, -0.5))
    axes[0].set_yticklabels(titles)
    return figure


def full(results: pd.DataFrame, metric: str, test: str = study.TEST) -> tuple[float, float]:
    """Mean and half interval of the full method itself."""
    means = study.of(results, test)
    return study.interval(means[means.method == study.FULL], metric)


def main(publish: bool = False) -> list[Path]:
    """Draw the ablations."""
    return save_figure(draw(study.load_study()), "ablations", "png" if publish else None)


if __name__ == "__main__":
    run(main)
