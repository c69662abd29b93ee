"""Tables of a grid as LaTeX, in the paper's arrangement (needs the package `booktabs`)."""

import math
from pathlib import Path

import pandas as pd

from fap_lib.files import write_text

FILE = "tables.tex"

LEVELS = {"image": ("auroc", "ap"), "pixel": ("auroc", "aupro_official")}
"""The two figures of each cell, as in the paper: image AUROC and AP, pixel AUROC and AUPRO."""

_TITLES = {"auroc": "AUROC", "ap": "AP", "aupro_official": "AUPRO (official definition)"}


def write_tables(folder: Path, summary: pd.DataFrame, label: str) -> Path:
    """Write `tables.tex`: for images and pixels, datasets by methods.

    Args:
        summary: means over categories, as `fap_lib.results.over_seeds` makes them. label: what they mean.
    """
    parts = [f"% {label}\n"] + [_level(summary, level) for level in LEVELS]
    write_text(folder / FILE, "\n".join(parts))
    return folder / FILE


def _level(summary: pd.DataFrame, level: str) -> str:
    rows = summary[summary["level"] == level].copy()
    rows["column"] = [column(title, mode) for title, mode in zip(rows["title"], rows["mode"], strict=True)]
    columns, datasets = list(dict.fromkeys(rows["column"])), list(dict.fromkeys(rows["dataset"]))
    cells = {
        (row["dataset"], row["column"], row["metric"]): (row["mean"], row["std"])
        for row in rows.to_dict("records")
    }
    lines = [
        rf"\begin{{tabular}}{{l{'c' * len(columns)}}}",
        r"\toprule",
        " & ".join(["dataset", *map(_escape, columns)]) + r" \\",
        r"\midrule",
    ]
    for dataset in datasets:
        shown = [
            " / ".join(
                _shown(*cells.get((dataset, name, metric), (math.nan, math.nan))) for metric in LEVELS[level]
            )
            for name in columns
        ]
        lines.append(" & ".join([_escape(dataset), *shown]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    names = " / ".join(_TITLES[metric] for metric in LEVELS[level])
    return (
        f"% {level} level: {names}, per cent, mean (and standard deviation over seeds)\n"
        + "\n".join(lines)
        + "\n"
    )


def column(title: str, mode: str | None) -> str:
    """A method's heading; what was not trained has no mode."""
    return f"{title} ({mode})" if mode else title


def _shown(mean: float, std: float) -> str:
    if math.isnan(mean):
        return "--"
    return f"{100 * mean:.1f}" if math.isnan(std) else rf"{100 * mean:.1f}$\pm${100 * std:.1f}"


def _escape(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in text)
