"""Obtained against reported: published values with their sources, and a verdict for each of ours.

`reported.csv` has one row a published value: method, dataset, level, metric, value (per cent), where it was
read, what kind of source that is, and how far it is to be trusted. No results table of FAPrompt was read
first-hand; its values are quoted by reviews and later papers, or are reruns by others.
"""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from fap_lib.grids.tables import COMPARISON, CONFIDENCE, KINDS, REPORTED, checked

FILE = Path(__file__).with_name("reported.csv")

DATASETS = {
    "MVTecAD": "mvtec",
    "VisA": "visa",
    "MPDD": "mpdd",
    "BTAD": "btad",
    "SDD": "sdd",
    "AITEX": "aitex",
    "DAGM": "dagm",
    "DTD-Synthetic": "dtd",
    "HeadCT": "headct",
    "BrainMRI": "brainmri",
    "Br35H": "br35h",
    "CVC-ColonDB": "colondb",
    "CVC-ClinicDB": "clinicdb",
    "Kvasir": "kvasir",
    "Endo": "endo",
    "ISIC": "isic",
    "TN3K": "tn3k",
}
"""Names in `reported.csv` and the kit's. The file has nothing on ELPV and LAG."""

MISSING = {
    *(("aitex", "image", "ap"), ("aitex", "pixel", "aupro_official")),
    *((dataset, "image", metric) for dataset in ("elpv", "lag") for metric in ("auroc", "ap")),
}
"""Figures in FAPrompt's tables of which no source was found, by dataset, level and metric."""

STILL_MISSING = "still missing: nobody who states this figure of the paper was found"

METRICS = {"auroc": "auroc", "ap": "ap", "pro": "aupro_official"}
"""Metrics in `reported.csv` and the kit's. PRO is computed as the released code does."""

LEVELS = {"image": ("auroc", "ap"), "pixel": ("auroc", "aupro_official")}
"""The figures of the paper's tables, by level."""

SOURCE_OF = {"mvtec": "visa"}
"""What published prompts were learned on, by tested dataset; on MVTec AD (`mvtec`) for all others."""

BACKBONE, IMAGE_SIZE = "ViT-L-14-336-quickgelu", 518
"""What published values were computed with."""

COLUMNS = [
    *("method", "title", "mode", "source", "dataset", "level", "metric", "definition", "seeds", "run"),
    *("obtained", "std", "reported", "difference", "tolerance", "verdict", "reason"),
    *("reported_by", "kind", "confidence", "others"),
]
"""Columns of `compare`."""

# Sources whose protocol is not ours: what they say of themselves, or a dataset they cut differently.
_OTHER_PROTOCOL = {
    # TED smooths a (B, H, W) array with scipy's Gaussian, over B as well.
    "own evaluation grid": (
        "its source smooths across the four images of a batch, so that each map is nearly their mean, "
        "and takes 50 AUPRO thresholds, not 200"
    ),
    "other protocol": "its source says that its protocol is another",
}
_ANOMALYCLIP_SDD = (
    "SDD has two protocols: this value is on AnomalyCLIP's 181 normal and 74 anomalous images, "
    "ours on FAPrompt's 286 and 54 thirds of images"
)


def load_reported() -> pd.DataFrame:
    """The reported values under the kit's names of datasets and metrics, with `obstacle`: why a value must
    not be compared with ours, empty where it may. Averages and datasets the kit lacks are left out."""
    table = checked(pd.read_csv(FILE), REPORTED, f"the table {FILE.name}")
    table = table[table["dataset"].isin(DATASETS)].reset_index(drop=True)
    table["dataset"] = table["dataset"].map(DATASETS)
    table["metric"] = table["metric"].map(METRICS)
    table["obstacle"] = [_obstacle(row) for row in table.itertuples()]
    return table


def preferred(reported: pd.DataFrame) -> pd.DataFrame:
    """One value for each method, dataset, level and metric.

    First those that may be compared, then those not marked as low in confidence, then by kind of source
    (the paper's, quoted, rerun, retrained), then by confidence, then in the order of the file.
    """
    keys = pd.DataFrame(
        {
            "other": reported["obstacle"] != "",
            "low": reported["confidence"] == "low",
            "kind": reported["kind"].map(KINDS.index),
            "confidence": reported["confidence"].map(CONFIDENCE.index),
        }
    )
    order = keys.sort_values(list(keys), kind="stable").index
    return reported.loc[order].drop_duplicates(["method", "dataset", "level", "metric"])


def tolerances(reported: pd.DataFrame) -> dict[tuple[str, str], float]:
    """How far a rerun may lie from the paper's value, in points, by level and metric.

    It is the largest distance seen between a value of FAPrompt's paper (or one quoted from it) and a rerun by
    others under the same protocol, so "within" means: no further off than others who ran the same code.
    Retrainings by others are left out: they differ by seed and evaluator at once, and what a seed does, a
    grid measures itself, with several.
    """
    own = reported[
        (reported["method"] == "FAPrompt") & (reported["obstacle"] == "") & (reported["confidence"] != "low")
    ]
    reruns = own[own["kind"] == "third-party-rerun"]
    pairs = preferred(own[~own["kind"].str.startswith("third-party")]).merge(
        reruns, on=["dataset", "level", "metric"], suffixes=("", "_rerun")
    )
    pairs["distance"] = (pairs["value"] - pairs["value_rerun"]).abs().round(2)
    return pairs.groupby(["level", "metric"])["distance"].max().to_dict()


def compare(summary: pd.DataFrame) -> pd.DataFrame:
    """A verdict for each obtained mean over categories.

    Args:
        summary: as `fap_lib.grids.results.over_seeds` makes it; values in [0, 1].

    Returns:
        One row a cell: obtained, std and reported in per cent, difference and tolerance in points, source,
        kind and confidence of the reported value, `others` (all other reported values), verdict (`within`,
        `better`, `worse`, `not comparable`, `not reported`) and the reason of the last two.
    """
    reported = load_reported()
    best, allowed = preferred(reported), tolerances(reported)
    rows = [
        _cell(row, reported, best, allowed)
        for row in summary.to_dict("records")
        if row["metric"] in LEVELS[row["level"]]
    ]
    made = pd.DataFrame(rows, columns=COLUMNS)
    numbers = ("obtained", "std", "reported", "difference", "tolerance")
    return checked(made.astype(dict.fromkeys(numbers, float)), COMPARISON, "the comparison")


def _cell(
    row: dict[str, Any], reported: pd.DataFrame, best: pd.DataFrame, allowed: dict[tuple[str, str], float]
) -> dict[str, Any]:
    def same(table: pd.DataFrame) -> pd.DataFrame:
        return table[
            (table["method"] == row["reported"])
            & (table["dataset"] == row["dataset"])
            & (table["level"] == row["level"])
            & (table["metric"] == row["metric"])
        ]

    cell: dict[str, Any] = {name: row[name] for name in COLUMNS[:10]}
    cell |= {"obtained": 100 * row["mean"], "std": 100 * row["std"]}
    found = same(best)
    if found.empty:
        missing = row["reported"] == "FAPrompt" and (row["dataset"], row["level"], row["metric"]) in MISSING
        unknown = f"no value of {row['title']} on {row['dataset']} is known"
        return cell | {"verdict": "not reported", "reason": STILL_MISSING if missing else unknown}
    value = found.iloc[0].to_dict()
    others = same(reported).drop(found.index)["value"]
    cell |= {
        "reported": value["value"],
        "reported_by": value["source"],
        "kind": value["kind"],
        "confidence": value["confidence"],
        "others": " ".join(f"{other:g}" for other in others),
        "difference": cell["obtained"] - value["value"],
    }
    reason = obstacle(row) or value["obstacle"]
    if reason:
        return cell | {"verdict": "not comparable", "reason": reason}
    tolerance = allowed[row["level"], row["metric"]]
    return cell | {"tolerance": tolerance, "verdict": verdict(cell["difference"], tolerance), "reason": ""}


def verdict(difference: float, tolerance: float) -> str:
    """`within` the tolerance, or `better` or `worse` by more than it; both in points."""
    if abs(difference) <= tolerance + 1e-9:
        return "within"
    return "better" if difference > 0 else "worse"


def obstacle(row: dict[str, Any]) -> str:
    """Why an obtained mean must not be compared with reported values; empty where it may."""
    if math.isnan(row["mean"]):
        return f"undefined here: {row['reason']}"
    if not row["trained"]:
        return "made with random weights"
    if (row["backbone"], row["image_size"]) != (BACKBONE, IMAGE_SIZE):
        return (
            f"made with {row['backbone']} at {row['image_size']} pixels, "
            f"reported values are of {BACKBONE} at {IMAGE_SIZE}"
        )
    wanted = SOURCE_OF.get(row["dataset"], "mvtec")
    if row["source"] is not None and row["source"] != wanted:
        return f"prompts learned on {row['source']}, those of reported values on {wanted}"
    return row["unlike"]


def _obstacle(row: Any) -> str:
    if row.dataset == "sdd" and row.source.startswith(("lake-user/EDMPrompt", "zqhang/AnomalyCLIP")):
        return _ANOMALYCLIP_SDD
    return next((reason for words, reason in _OTHER_PROTOCOL.items() if words in row.source), "")
