"""One setting at a time: the paper's sweeps of K, M and the token lengths E and E'.

Points are paired differences to the default (same data, same seed). Whiskers are 95 % intervals from the
spread that all swept methods share (`lessons.study.differences`), because each has few runs. The default
is CAP + DAP in `paper` mode; its difference to itself is 0.

Reads: `benchmarks/results/study.csv` (`python -m benchmarks.study --sweeps`).

    python -m figures.sweeps
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from fap_lib.core.config import load_profile
from fap_lib.core.errors import KitError
from fap_lib.lessons import study
from fap_lib.pictures.style import PALETTE
from figures import run, save_figure

SETTINGS = {
    "K": ("n_prompts", "K, abnormality prompts"),
    "M": ("n_patches", "M, patches the prior sees"),
    "E": ("normal_tokens", "E, normal tokens"),
    "E'": ("abnormal_tokens", "E', abnormal tokens"),
}
"""A setting's letter, its name in the profile, and its axis."""


def values(results: pd.DataFrame, test: str = study.TEST) -> pd.DataFrame:
    """What the points show: a row a setting, value and metric; mean and half interval in points.

    The default is among them, with difference 0.

    Raises:
        KitError: the study has no sweeps.
    """
    found = study.differences(results, study.SWEPT, study.FULL, test)
    swept = found.method.str.extract(r"^(K|M|E|E') = (\d+)$").dropna()
    if swept.empty:
        raise KitError("the study has no sweeps; run them with: python -m benchmarks.study --sweeps")
    table = pd.DataFrame(
        {
            "setting": swept[0],
            "value": swept[1].astype(int),
            "metric": found.metric,
            "mean": found["mean"],
            "half": found.pooled,
        }
    ).loc[swept.index]
    model = load_profile("mini").model
    defaults = [
        [letter, getattr(model, name), metric, 0.0, 0.0]
        for letter, (name, _) in SETTINGS.items()
        for metric in study.COMPARED
    ]
    table = pd.concat([table, pd.DataFrame(defaults, columns=table.columns)])
    table = table.astype({"value": int})
    return table.sort_values(["setting", "metric", "value"], ignore_index=True)


def draw(results: pd.DataFrame) -> Figure:
    """A panel a setting, a line a metric, all on one scale.

    Args:
        results: the study's runs, as `study.load_study` reads them.
    """
    shown = values(results)
    figure, axes = plt.subplots(2, 2, figsize=(7.5, 5), sharey=True)
    for axis, (letter, (name, title)) in zip(axes.flat, SETTINGS.items(), strict=True):
        own = shown[shown.setting == letter]
        ticks = sorted(set(own.value))
        for number, metric in enumerate(study.COMPARED):
            line = own[own.metric == metric]
            x = line.value.map(ticks.index) + 0.12 * (number - 1)
            axis.errorbar(
                x,
                line["mean"],
                yerr=line["half"],
                fmt="o-",
                markersize=3.5,
                capsize=2,
                color=PALETTE[number],
                linewidth=1,
                label=study.METRICS[metric],
            )
        axis.axhline(0, color="black", linewidth=0.6, linestyle=":")
        default = getattr(load_profile("mini").model, name)
        labels = [f"{value}\n(default)" if value == default else str(value) for value in ticks]
        axis.set(xlabel=title, xticks=range(len(ticks)))
        axis.set_xticklabels(labels)
    figure.supylabel("difference to the default, points", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def main() -> list[Path]:
    """Draw the sweeps."""
    return save_figure(draw(study.load_study()), "sweeps")


if __name__ == "__main__":
    run(main)
