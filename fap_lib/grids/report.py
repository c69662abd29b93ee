"""The tables of a grid of runs as CSV, LaTeX and one self-contained HTML page."""

import html
import math
from pathlib import Path

import pandas as pd

from fap_lib.core.files import write_text
from fap_lib.evaluation.scoring import MEAN
from fap_lib.grids import latex
from fap_lib.grids.compare import LEVELS
from fap_lib.grids.results import TABLES, costs, is_snapshot, unfinished
from fap_lib.runs.report import PAGE, page, picture


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
    parts = [
        "<h1>FAPrompt, a grid of runs</h1>",
        f'<p class="note">These figures come from {html.escape(label)}.</p>',
    ]
    if missing := unfinished(folder):
        names = "".join(f"<li>{html.escape(name)}</li>" for name in missing)
        parts.append(f'<div class="note">Evaluations that are not there yet: <ul>{names}</ul></div>')
    for level, metrics in LEVELS.items():
        for metric in metrics:
            rows = means[(means["level"] == level) & (means["metric"] == metric)]
            parts += [f"<h2>{level} {metric}, % (mean over categories)</h2>", _methods(rows)]
    parts += ["<h2>Obtained against reported</h2>", _verdicts(comparison)]
    for dataset in dict.fromkeys(results["dataset"]):
        run = results[(results["dataset"] == dataset) & (results["method"] == "faprompt")]["run"]
        if len(run):
            parts += [f"<h2>{html.escape(dataset)}</h2>", f"<p>{html.escape(run.iloc[0])}</p>"]
            parts.append(picture(folder / run.iloc[0], dataset))
    parts += ["<h2>What it took</h2>", spent.to_html(index=False, border=0, float_format="{:.0f}".format)]
    write_text(place / PAGE, page("FAPrompt grid", parts))
    return [*(place / f"{name}.csv" for name in tables), place / latex.FILE, place / PAGE]


def _methods(rows: pd.DataFrame) -> str:
    """Methods by datasets, in per cent, with the standard deviation where there are several seeds."""
    shown = [
        f"{100 * mean:.1f}" + ("" if math.isnan(std) else f" ± {100 * std:.1f}")
        if not math.isnan(mean)
        else "–"
        for mean, std in zip(rows["mean"], rows["std"], strict=True)
    ]
    names = [latex.column(title, mode) for title, mode in zip(rows["title"], rows["mode"], strict=True)]
    wide = rows.assign(name=names, shown=shown).pivot_table(
        index="name", columns="dataset", values="shown", aggfunc="first", sort=False
    )
    wide.index.name = wide.columns.name = None
    return wide.to_html(border=0, na_rep="–")


def _verdicts(comparison: pd.DataFrame) -> str:
    """How often each verdict, and the cells that have a reported value."""
    counts = comparison["verdict"].value_counts()
    found = comparison[comparison["verdict"] != "not reported"]
    names = [
        "title",
        "mode",
        "dataset",
        "level",
        "metric",
        "obtained",
        "reported",
        "confidence",
        "reported_by",
    ]
    names += ["difference", "tolerance", "verdict", "reason"]
    told = ", ".join(f"{html.escape(verdict)}: {count}" for verdict, count in counts.items())
    table = (
        found[names].to_html(index=False, border=0, float_format="{:.1f}".format, na_rep="–")
        if len(found)
        else ""
    )
    return f"<p>Cells: {told}.</p>{table}"
