"""One self-contained HTML page of a run: what was run, the metrics, the heat maps."""

import html
from pathlib import Path
from typing import Any

import pandas as pd

from fap_lib.core.files import write_text
from fap_lib.core.inline import image_tag
from fap_lib.evaluation.scoring import MEAN
from fap_lib.runs.record import read_run

PAGE = "report.html"

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, p, li { overflow-wrap: anywhere; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.note { background: #fff6d8; padding: .6rem 1rem; border-left: 4px solid #d9a400; }
img { max-width: 100%; }
@media (max-width: 30rem) { h1 { font-size: 1.5rem; } th, td { padding: .2rem .5rem; } }
"""


def write_report(folder: Path, metrics: list[dict[str, Any]], label: str, title: str, step: Path) -> Path:
    """Write `report.html` into a run folder and return its path.

    Args:
        folder: holds for each dataset its `run.json` and `heatmaps.png`.
        metrics: tidy rows of all datasets, as `scoring.evaluate` makes them. label: what they mean.
        title: the page's heading. step: the folder of the step whose `run.json` the page tells.
    """
    run = read_run(step)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="note">These figures come from {html.escape(label)}.</p>',
    ]
    for name in dict.fromkeys(row["dataset"] for row in metrics):
        rows = [row for row in metrics if row["dataset"] == name]
        parts += [f"<h2>{html.escape(name)}</h2>", _table(rows), _definitions(rows)]
        parts.append(picture(folder / name, name))
    parts += ["<h2>The run</h2>", _facts(run)]
    write_text(folder / PAGE, page("FAPrompt run", parts))
    return folder / PAGE


def page(title: str, parts: list[str]) -> str:
    """A whole page that needs nothing else; each table scrolls in a box of its own where it is too wide."""
    body = "".join(parts).replace("<table", '<div class="table" tabindex="0"><table')
    body = body.replace("</table>", "</table></div>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def picture(folder: Path, name: str) -> str:
    """The heat maps of a dataset's evaluation, inside the page."""
    alternative = f"Images of {name} with their masks and anomaly maps, from the highest score to the lowest"
    return image_tag((folder / "heatmaps.png").read_bytes(), alternative)


def _table(rows: list[dict[str, Any]]) -> str:
    """Categories by metrics in per cent, the mean last; a dash where a metric does not exist. A metric that
    exists for none is left out: the definitions say why."""
    tidy = pd.DataFrame(rows).astype({"value": float})
    wide = tidy.pivot_table(
        index="category", columns=["level", "metric"], values="value", sort=False, dropna=False
    )
    wide = wide.loc[[*(name for name in wide.index if name != MEAN), MEAN]] * 100
    wide = wide.dropna(axis="columns", how="all")
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
        run["kind"]: f"{run['seconds']:.0f} s, {run['peak_memory_mb']} MiB at most",
    }
    rows = [f"<tr><td>{name}</td><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items()]
    return f"<table>{''.join(rows)}</table>"
