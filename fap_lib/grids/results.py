"""The results of a grid of runs, gathered into tidy tables; and snapshots, which are such tables alone."""

import gzip
from pathlib import Path
from typing import Any

import pandas as pd

from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic, read_json, write_text
from fap_lib.core.sealed import read_sealed
from fap_lib.grids.jobs import PLAN, is_done
from fap_lib.grids.tables import RESULTS, checked
from fap_lib.runs.marks import seconds
from fap_lib.runs.record import read_run, result
from fap_lib.runs.results import METRICS

TABLES = "results"
"""Folder of a grid's tables."""

_LABEL = "label.txt"

_CELL = ["method", "title", "group", "mode", "source", "dataset", "category", "level", "metric", "definition"]


def gather_results(folder: Path) -> pd.DataFrame:
    """All metrics of a grid's finished evaluations, or of a snapshot, one row a value.

    Columns (`grids.tables.RESULTS`): method, title, group, mode, source (what the prompts were learned on),
    dataset, category, level, metric, definition, value in [0, 1] or missing, error (its bound), reason,
    images, seed, run and training (folders of the runs that made it), backbone, trained, image_size,
    reported, unlike.

    Raises:
        KitError: no grid there, or a value that cannot be.
    """
    if is_snapshot(folder):
        (path,) = (folder / TABLES).glob("results.csv*")
        texts = ["mode", "source", "reported", "training", "reason", "unlike"]
        table = pd.read_csv(path, dtype={**dict.fromkeys(texts, "str"), "seed": "Int64"})
        return checked(table.fillna({"reason": "", "unlike": ""}), RESULTS, f"the table {path}")
    rows: list[dict[str, Any]] = []
    for facts in _jobs(folder)["results"]["facts"]["rows"]:
        place = folder / facts["run"]
        if is_done(folder, facts["run"]):
            made = read_run(place)
            how = {
                "backbone": made["weights"]["backbone"],
                "trained": made["weights"]["trained"],
                "image_size": made["settings"]["features"]["image_size"],
            }
            metrics = read_json(result(place, f"{METRICS}.json"), "metrics")["metrics"]
            rows += [{**facts, **how, **row, "dataset": facts["dataset"]} for row in metrics]
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows).astype({"value": float, "error": float, "seed": "Int64"})
    return checked(table, RESULTS, f"what the runs in {folder} left")


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (n - 1; missing for one seed) over seeds of gathered results.

    Undefined where one of the values is. `run` lists the runs behind each row.
    """
    groups = table.groupby(_CELL, dropna=False, sort=False)
    kept = ["images", "reason", "backbone", "trained", "image_size", "reported", "unlike"]
    summary = groups[kept].first()
    summary["mean"] = groups["value"].agg(lambda values: values.mean(skipna=False))
    summary["std"] = groups["value"].std(ddof=1)
    summary["seeds"] = groups["value"].size()
    summary["run"] = groups["run"].agg("; ".join)
    summary = summary.reset_index()
    return summary.astype(object).where(summary.notna(), None).astype({"mean": float, "std": float})


def costs(folder: Path) -> pd.DataFrame:
    """What a grid's finished jobs took, by kind and method, and in all.

    Columns: jobs, seconds (of all jobs, kernels' start included; jobs side by side count fully), and the
    largest memory of one job in MiB, on the CPU and on the GPU.
    """
    if is_snapshot(folder):
        return pd.read_csv(folder / TABLES / "costs.csv", keep_default_na=False)
    rows = []
    for name, job in _jobs(folder).items():
        if job["kind"] != "results" and is_done(folder, name):
            made = read_run(folder / name)
            rows.append(
                {
                    "kind": job["kind"],
                    "what": job["facts"]["what"],
                    "jobs": 1,
                    "seconds": seconds(folder / name),
                    "peak_memory_mb": made["peak_memory_mb"],
                    "peak_gpu_memory_mb": made["peak_gpu_memory_mb"] or 0,
                }
            )
    table = pd.DataFrame(rows)
    together = {"jobs": "sum", "seconds": "sum", "peak_memory_mb": "max", "peak_gpu_memory_mb": "max"}
    parts = table.groupby(["kind", "what"], sort=False).agg(together).reset_index()
    total = table.agg(together).to_dict()
    everything = pd.concat([parts, pd.DataFrame([{"kind": "all", "what": "", **total}])], ignore_index=True)
    return everything.round(1).astype({name: int for name in together if name != "seconds"})


def unfinished(folder: Path) -> list[str]:
    """Evaluations of a grid's plan that are not there; a snapshot is made of a whole grid."""
    if is_snapshot(folder):
        return []
    jobs = _jobs(folder)
    return [name for name, job in jobs.items() if job["kind"] == "evaluation" and not is_done(folder, name)]


def meaning(folder: Path, results: pd.DataFrame) -> str:
    """What the figures of a grid mean: the labels of its runs."""
    if is_snapshot(folder):
        return (folder / TABLES / _LABEL).read_text(encoding="utf-8").strip()
    labels = [
        read_json(result(folder / run, f"{METRICS}.json"), "metrics")["label"]
        for run in results["run"].unique()
    ]
    return "; ".join(dict.fromkeys(labels))


def is_snapshot(folder: Path) -> bool:
    """Whether a folder holds a grid's tables without its runs; see `write_snapshot`."""
    return not (folder / PLAN).exists() and (folder / TABLES / _LABEL).is_file()


def write_snapshot(folder: Path, target: Path) -> None:
    """Keep the tables of a finished grid without its runs: values to six decimals, costs, label.

    `gather_results`, `costs`, `unfinished` and `meaning` read `target` as they read a grid.

    Raises:
        KitError: the grid is not finished.
    """
    if missing := unfinished(folder):
        raise KitError(f"{folder} is not finished ({missing[0]} is missing); run it to its end first.")
    results = gather_results(folder)
    text = results.round({"value": 6, "error": 6}).to_csv(index=False, lineterminator="\n")
    with atomic(target / TABLES / "results.csv.gz") as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
    write_text(target / TABLES / "costs.csv", costs(folder).to_csv(index=False, lineterminator="\n"))
    write_text(target / TABLES / _LABEL, meaning(folder, results) + "\n")


def _jobs(folder: Path) -> dict[str, Any]:
    """The jobs of a grid's plan.

    Raises:
        KitError: there is none.
    """
    if not (folder / PLAN).is_file():
        raise KitError(
            f"{folder} holds no grid of runs; make one with `make paper PROFILE=mini`, or name another."
        )
    content = read_sealed(folder / PLAN, "plan of a grid", "the same `fap paper` command writes it anew")
    return dict(content["jobs"])
