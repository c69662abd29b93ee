"""Tables of a grid as LaTeX, in the paper's arrangement (needs the package `booktabs`)."""

import math
from pathlib import Path

import pandas as pd

from fap_lib.core.files import write_text
from fap_lib.grids.compare import LEVELS

FILE = "tables.tex"

_TITLES = {"auroc": "AUROC", "ap": "AP", "aupro_official": "AUPRO (official definition)"}


def write_tables(folder: Path, summary: pd.DataFrame, label: str) -> Path:
    """Write `tables.tex`: for images and pixels, datasets by methods, then ablations by datasets.

    Args:
        summary: means over categories, of `grids.results.over_seeds`. label: what they mean.
    """
    heading = [column(title, mode) for title, mode in zip(summary["title"], summary["mode"], strict=True)]
    named = summary.assign(setting=heading)
    parts = [f"% {label}\n"]
    for level in LEVELS:
        rows = named[named["level"] == level]
        parts.append(_table(rows[rows["group"] != "ablations"], "dataset", "setting", level))
        if (rows["group"] == "ablations").any():
            parts.append(_table(rows[rows["group"] != "baselines"], "setting", "dataset", level))
    write_text(folder / FILE, "\n".join(parts))
    return folder / FILE


def _table(rows: pd.DataFrame, index: str, across: str, level: str) -> str:
    cells = {
        (row[index], row[across], row["metric"]): (row["mean"], row["std"]) for row in rows.to_dict("records")
    }
    lines, columns = list(dict.fromkeys(rows[index])), list(dict.fromkeys(rows[across]))
    text = [
        f"% {level} level, per cent (several seeds: mean and standard deviation): "
        + " / ".join(_TITLES[metric] for metric in LEVELS[level]),
        rf"\begin{{tabular}}{{l{'c' * len(columns)}}}",
        r"\toprule",
        " & ".join([index, *map(_escape, columns)]) + r" \\",
        r"\midrule",
    ]
    for line in lines:
        shown = [
            " / ".join(
                _shown(*cells.get((line, name, metric), (math.nan, math.nan))) for metric in LEVELS[level]
            )
            for name in columns
        ]
        text.append(" & ".join([_escape(line), *shown]) + r" \\")
    return "\n".join([*text, r"\bottomrule", r"\end{tabular}", ""])


def column(title: str, mode: str | None) -> str:
    """A method's heading; what was not trained has no mode."""
    return f"{title} ({mode})" if mode else title


def _shown(mean: float, std: float) -> str:
    if math.isnan(mean):
        return "--"
    return f"{100 * mean:.1f}" if math.isnan(std) else rf"{100 * mean:.1f}$\pm${100 * std:.1f}"


def _escape(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in text)
