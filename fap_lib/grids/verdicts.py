"""Verdicts for a run that is no grid: obtained against reported for each dataset it tested."""

from pathlib import Path
from typing import Any

import pandas as pd

from fap_lib.core.files import write_text
from fap_lib.evaluation.scoring import MEAN
from fap_lib.grids.compare import compare
from fap_lib.runs.record import read_run

FILE = "comparison.csv"


def write_verdicts(folder: Path, metrics: list[dict[str, Any]]) -> pd.DataFrame:
    """Compare FAPrompt's metrics of a run with the reported ones; write and return `comparison.csv`.

    Args:
        folder: the run's, as `fap_lib.runs.evaluate.evaluate_prompts` leaves it. metrics: its tidy metrics.

    Returns:
        See `fap_lib.grids.compare.compare`.
    """
    rows = []
    for dataset in dict.fromkeys(row["dataset"] for row in metrics):
        run = read_run(folder / dataset)
        how = {
            "method": "faprompt",
            "title": "FAPrompt",
            "mode": run["settings"]["model"]["mode"],
            "source": run["prompts"].get("dataset"),
            "seeds": 1,
            "run": dataset,
            "std": None,
            "reported": "FAPrompt",
            "unlike": "",
            "backbone": run["weights"]["backbone"],
            "trained": run["weights"]["trained"],
            "image_size": run["settings"]["features"]["image_size"],
        }
        rows += [
            {**row, **how, "mean": row["value"]}
            for row in metrics
            if row["dataset"] == dataset and row["category"] == MEAN
        ]
    summary = pd.DataFrame(rows).astype({"mean": float, "std": float})
    table = compare(summary)
    write_text(folder / FILE, table.to_csv(index=False, lineterminator="\n"))
    return table
