"""One self-contained HTML page of a run, or of a grid of runs: what was run, the metrics, the heat maps."""

import base64
import html
import math
from pathlib import Path
from typing import Any

import pandas as pd

from fap_lib import latex
from fap_lib.files import read_json, write_text
from fap_lib.reported import LEVELS
from fap_lib.results import TABLES, costs, is_snapshot, unfinished
from fap_lib.runs import FILE
from fap_lib.scoring import MEAN

PAGE = "report.html"

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.note { background: #fff6d8; padding: .6rem 1rem; border-left: 4px solid #d9a400; }
img { max-width: 100%; }
"""


def write_report(folder: Path, metrics: list[dict[str, Any]], label: str) -> Path:
    """Write `report.html` into a run folder and return its path.

    Args:
        folder: holds `training/run.json`, and for each dataset its `run.json` and `heatmaps.png`.
        metrics: tidy rows of all datasets, as `scoring.evaluate` makes them. label: what they mean.
    """
    run = read_json(folder / "training" / FILE, "run manifest")
    parts = [
        f"<h1>FAPrompt, trained on {html.escape(run['data']['name'])}</h1>",
        f'<p class="note">These figures come from {html.escape(label)}.</p>',
    ]
    for name in dict.fromkeys(row["dataset"] for row in metrics):
        rows = [row for row in metrics if row["dataset"] == name]
        parts += [f"<h2>{html.escape(name)}</h2>", _table(rows), _definitions(rows)]
        parts.append(_picture(folder / name, name))
    parts += ["<h2>The run</h2>", _facts(run)]
    write_text(folder / PAGE, _page("FAPrompt run", parts))
    return folder / PAGE


def write_grid(
    folder: Path, results: pd.DataFrame, summary: pd.DataFrame, comparison: pd.DataFrame, label: str
) -> list[Path]:
    """Write a grid's tables as CSV and LaTeX, and `report.html`, below `folder/results`; return their paths.

    A snapshot stays as it is: it has no runs to write about.

    Args:
        results, summary, comparison: see `fap_lib.results` and `fap_lib.reported.compare`.
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
            parts.append(_picture(folder / run.iloc[0], dataset))
    parts += ["<h2>What it took</h2>", spent.to_html(index=False, border=0, float_format="{:.0f}".format)]
    write_text(place / PAGE, _page("FAPrompt grid", parts))
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


def _page(title: str, parts: list[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def _picture(folder: Path, name: str) -> str:
    """The heat maps of a dataset's evaluation, inside the page."""
    picture = base64.b64encode((folder / "heatmaps.png").read_bytes()).decode()
    alternative = f"Images of {name} with their masks and anomaly maps, from the highest score to the lowest"
    return f'<img alt="{html.escape(alternative)}" src="data:image/png;base64,{picture}">'


def _table(rows: list[dict[str, Any]]) -> str:
    """Categories by metrics in per cent, the mean last; a dash where a metric does not exist."""
    tidy = pd.DataFrame(rows).astype({"value": float})
    wide = tidy.pivot_table(
        index="category", columns=["level", "metric"], values="value", sort=False, dropna=False
    )
    wide = wide.loc[[*(name for name in wide.index if name != MEAN), MEAN]] * 100
    wide.columns = [f"{level} {metric}" for level, metric in wide.columns]
    wide.index.name = None
    return wide.to_html(float_format="{:.1f}".format, na_rep="–", border=0)


def _definitions(rows: list[dict[str, Any]]) -> str:
    lines = {
        f"{row['level']} {row['metric']}": row["reason"] or row["definition"]
        for row in rows
        if row["category"] == MEAN
    }
    items = [f"<li>{html.escape(name)}: {html.escape(text)}</li>" for name, text in lines.items()]
    return f"<details><summary>How each metric is defined</summary><ul>{''.join(items)}</ul></details>"


def _facts(run: dict[str, Any]) -> str:
    facts = {
        "kit": f"{run['kit']['version']}, commit {run['kit']['commit']}",
        "backbone": f"{run['weights']['backbone']}, weights {run['weights']['sha256'][:12]}",
        "mode": run["settings"]["model"]["mode"],
        "seed": run["seed"],
        "device": run["device"],
        "training": f"{run['seconds']:.0f} s, {run['peak_memory_mb']} MiB at most",
    }
    rows = [f"<tr><td>{name}</td><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items()]
    return f"<table>{''.join(rows)}</table>"
