"""What an evaluation leaves: metrics as JSON and CSV, and a score for every image."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fap_lib.core.files import write_json, write_text

if TYPE_CHECKING:
    from fap_lib.evaluation.scoring import Scores  # scikit-learn comes with it, and is slow to import

METRICS = "metrics"

SCORES = "scores.csv"


def write_metrics(folder: Path, rows: list[dict[str, Any]], label: str) -> None:
    """Write tidy metrics as `metrics.json` (with the label that says what they mean) and `metrics.csv`."""
    write_json(folder / f"{METRICS}.json", {"label": label, "metrics": rows})
    write_text(folder / f"{METRICS}.csv", table(rows))


def write_scores(folder: Path, scores: "Scores") -> None:
    """Write `scores.csv`: image, category, label, image score, global probability."""
    write_text(
        folder / SCORES,
        table(
            [
                {
                    "image": record.image,
                    "category": record.category,
                    "defect": record.defect,
                    "label": record.label,
                    "score": f"{scores.image[index]:.6f}",
                    "global_probability": f"{scores.probability[index]:.6f}",
                }
                for index, record in enumerate(scores.cache.records)
            ]
        ),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of the same keys as CSV text; None becomes an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The means over categories, one row a metric, in per cent to one decimal; or why there is none."""
    from fap_lib.evaluation.scoring import MEAN

    return [
        {
            "level": row["level"],
            "metric": row["metric"],
            "%": "undefined" if row["value"] is None else f"{100 * row['value']:.1f}",
            "definition": row["reason"] or row["definition"],
        }
        for row in rows
        if row["category"] == MEAN
    ]
