"""Tables of a grid as LaTeX, in the paper's arrangement (needs the package `booktabs`)."""

from pathlib import Path

import pandas as pd

from fap_lib.core.files import write_text
from fap_lib.core.numbers import plus_minus
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
    values = [
        plus_minus(100 * mean, 100 * std, absent="--").replace(" ± ", r"$\pm$")
        for mean, std in zip(rows["mean"], rows["std"], strict=True)
    ]
    wide = rows.assign(shown=values).pivot(index=[index, across], columns="metric", values="shown")
    wide = wide.reindex(columns=list(LEVELS[level]))
    cells = wide.fillna("--").agg(" / ".join, axis="columns").unstack(across)
    # In the order of the rows, and not of the alphabet.
    ordered = cells.reindex(index=rows[index].unique(), columns=rows[across].unique())
    missing = " / ".join("--" for _ in LEVELS[level])
    style = ordered.rename_axis(index=None, columns=index).style.format(na_rep=missing)
    style = style.format_index(escape="latex", axis="index").format_index(escape="latex", axis="columns")
    titles = " / ".join(_TITLES[metric] for metric in LEVELS[level])
    return (
        f"% {level} level, per cent (several seeds: mean and standard deviation): {titles}\n"
        + style.to_latex(hrules=True, column_format="l" + "c" * ordered.shape[1])
    )


def column(title: str, mode: str | None) -> str:
    """A method's heading; what was not trained has no mode."""
    return f"{title} ({mode})" if mode else title
