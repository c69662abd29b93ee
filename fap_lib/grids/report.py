"""The tables of a grid of runs as CSV, LaTeX and one self-contained HTML page."""

from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader

from fap_lib.core.files import write_text
from fap_lib.core.numbers import plus_minus
from fap_lib.evaluation.scoring import MEAN
from fap_lib.grids import latex
from fap_lib.grids.compare import LEVELS, STILL_MISSING
from fap_lib.grids.results import TABLES, costs, is_snapshot, unfinished
from fap_lib.runs.report import PAGE, page, picture

_TEMPLATE = Environment(loader=PackageLoader("fap_lib.grids", "."), autoescape=True).get_template(
    "report.html.j2"
)

_COMPARED = [
    *("title", "mode", "dataset", "level", "metric", "obtained", "reported", "confidence", "reported_by"),
    *("difference", "tolerance", "verdict", "reason"),
]


def write_grid(
    folder: Path, results: pd.DataFrame, summary: pd.DataFrame, comparison: pd.DataFrame, label: str
) -> list[Path]:
    """Write a grid's tables as CSV and LaTeX, and `report.html`, below `folder/results`; return their paths.

    A snapshot stays as it is: it has no runs to write about.

    Args:
        results, summary, comparison: see `fap_lib.runs.results` and `fap_lib.grids.compare.compare`.
        label: what the figures mean.
    """
    if is_snapshot(folder):
        return []
    place = folder / TABLES
    spent = costs(folder)
    tables = {"results": results, "summary": summary, "comparison": comparison, "costs": spent}
    for name, table in tables.items():
        write_text(place / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    means = summary[summary["category"] == MEAN]
    latex.write_tables(place, means, label)
    runs = results[results["method"] == "faprompt"].groupby("dataset", sort=False)["run"].first()
    body = _TEMPLATE.render(
        label=label,
        missing=unfinished(folder),
        means=[
            (f"{level} {metric}", _methods(means[(means["level"] == level) & (means["metric"] == metric)]))
            for level, metrics in LEVELS.items()
            for metric in metrics
        ],
        verdicts=comparison["verdict"].value_counts().to_dict(),
        reported=_reported(comparison),
        shown=[(dataset, run, picture(folder / run, dataset)) for dataset, run in runs.items()],
        costs=_html(spent, index=False, float_format="{:.0f}".format),
    )
    write_text(place / PAGE, page("FAPrompt grid", [body]))
    return [*(place / f"{name}.csv" for name in tables), place / latex.FILE, place / PAGE]


def _methods(rows: pd.DataFrame) -> str:
    """Methods by datasets, in per cent, with the standard deviation where there are several seeds."""
    shown = [
        plus_minus(100 * mean, 100 * std, absent="–")
        for mean, std in zip(rows["mean"], rows["std"], strict=True)
    ]
    names = [latex.column(title, mode) for title, mode in zip(rows["title"], rows["mode"], strict=True)]
    wide = rows.assign(name=names, shown=shown).pivot_table(
        index="name", columns="dataset", values="shown", aggfunc="first", sort=False
    )
    return _html(wide.rename_axis(index=None, columns=None))


def _reported(comparison: pd.DataFrame) -> str:
    """The cells that have a reported value, or would have one if it were known."""
    missing = comparison["reason"] == STILL_MISSING
    found = comparison.loc[(comparison["verdict"] != "not reported") | missing, _COMPARED]
    shown = found.assign(reported=found["reported"].map("{:.1f}".format).where(~missing, "still missing"))
    return _html(shown, index=False, float_format="{:.1f}".format) if len(found) else ""


def _html(table: pd.DataFrame, **options: Any) -> str:
    """A table as HTML, which pandas has escaped."""
    return str(table.to_html(border=0, na_rep="–", **options))
