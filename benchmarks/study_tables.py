"""From the study's runs to tables; `benchmarks.pages` puts them into pages."""

import pandas as pd

from fap_lib.core import paths
from fap_lib.core.files import write_text
from fap_lib.core.numbers import plus_minus
from fap_lib.evaluation.scoring import MEAN
from fap_lib.lessons.study import (
    COMPARED,
    FULL,
    METRICS,
    ORGANS,
    SINGLE,
    SWEEPS,
    SWEPT,
    TEST,
    VALIDATION,
    differences,
    interval,
    load_study,
    of,
    paired,
)

RESULTS = paths.STUDY.parent

PROBE = "linear probe"
HAND, SILENT = "hand: ", "silent "
"""Beginnings of the names of hand-written wordings: read by the mini CLIP; by its twin."""

GAINS = (
    (FULL, HAND),
    (FULL, SINGLE),
    ("CAP", SINGLE),
    (FULL, "CAP"),
    (FULL, "CAP + DAP, released"),
    (FULL, "CAP + DAP, random patches"),
    ("CAP + DAP, bias", "single prompt, bias"),
)
"""Compared pairs; `HAND` is the hand-written wording that is best in the metric on validation."""


def best_wording(results: pd.DataFrame, metric: str) -> str:
    """The hand-written wording with the highest value of a metric on validation.

    It is chosen for each metric: state words were in captions of images alone, so wordings that are good for
    images are poor for pixels, and the other way round.
    """
    means = of(results, VALIDATION)
    means = means[means.method.str.startswith(HAND)]
    return str(means.groupby("method")[metric].mean().idxmax())


def gain(results: pd.DataFrame, method: str, over: str, metric: str, test: str) -> tuple[float, float]:
    """Mean and interval of the difference between two methods, as in the notebooks (`study.differences`)."""
    if over.startswith(HAND):  # hand-written prompts have one value a draw, and no auxiliary set
        return interval(paired(results, method, over, metric, test, ("draw",)), "gain")
    found = differences(results, (method,), over, test).set_index("metric").loc[metric]
    return float(found["mean"]) / 100, float(found["half"]) / 100


def means_table(results: pd.DataFrame, test: str) -> str:
    """Every method by its AUPRO; of the hand-written wordings those best in a metric, with their twins.

    Sweeps are not among them; see `sweeps_table`.
    """
    best = {best_wording(results, metric) for metric in COMPARED}
    rows = of(results, test)
    names = [
        name
        for name in dict.fromkeys(rows.method)
        if name not in SWEPT and (not name.startswith((HAND, SILENT)) or name.removeprefix(SILENT) in best)
    ]
    order = sorted(names, key=lambda name: rows[rows.method == name]["aupro_official"].fillna(0).mean())
    lines = [_row([f"`{test}`, %", "runs", *METRICS.values()]), "|---" * (len(METRICS) + 2) + "|"]
    for name in order:
        own = rows[rows.method == name]
        lines.append(_row([name, len(own), *(_percent(*interval(own, metric)) for metric in METRICS)]))
    return "\n".join(lines)


def gains_table(results: pd.DataFrame) -> str:
    """Differences between methods on the test set, in points."""
    lines = [_row([f"on `{TEST}`, points", *(METRICS[name] for name in COMPARED)]), "|---" * 4 + "|"]
    for method, over in GAINS:
        others = [best_wording(results, metric) if over == HAND else over for metric in COMPARED]
        cells = [
            _percent(*gain(results, method, other, metric, TEST), sign="+")
            for metric, other in zip(COMPARED, others, strict=True)
        ]
        title = "the best hand-written wording for each metric" if over == HAND else over
        lines.append(_row([f"{method} over {title}", *cells]))
    return "\n".join(lines)


def sweeps_table(results: pd.DataFrame) -> str:
    """What one changed setting does to `FULL`, run by run, in points; empty where no sweep has run.

    Few cells: the intervals go by the spread that all these differences share.
    """
    found = differences(results, SWEPT)
    if found.empty:
        return ""
    title = f"`{FULL}` with one setting changed, on `{TEST}`, points"
    lines = [_row([title, "", "runs", *(METRICS[name] for name in COMPARED)]), "|---" * 6 + "|"]
    for question, methods in SWEEPS.items():
        for method in methods:
            own = found[found.method == method].set_index("metric")
            if len(own):
                cells = [_percent(own["mean"][m] / 100, own["pooled"][m] / 100, sign="+") for m in COMPARED]
                lines.append(_row([question, method, own.runs.iloc[0], *cells]))
    return "\n".join(lines)


def groups_table(results: pd.DataFrame, defects: bool) -> str:
    """Image AUROC of each test category, or of each kind of defect against the normal images."""
    names = [best_wording(results, "image_auroc"), SINGLE, FULL, PROBE]
    rows = results[results.test.isin([TEST, ORGANS]) & (results.category != MEAN)]
    rows = rows[rows.category.str.startswith("defect: ") == defects]
    wide = rows.pivot_table(index="category", columns="method", values="image_auroc")[names]
    wide = wide.sort_values(FULL)
    lines = [_row(["image AUROC, %", *names]), "|---" * (len(names) + 1) + "|"]
    return "\n".join(
        [*lines, *(_row([name, *(f"{100 * v:.1f}" for v in row)]) for name, row in wide.iterrows())]
    )


def document(results: pd.DataFrame) -> str:
    """All tables."""
    wordings = results.method[results.method.str.startswith(HAND)].nunique()
    sweeps = sweeps_table(results)
    if sweeps:
        sweeps = f"""
One setting changed, run by run; intervals go by the spread of cells pooled over these rows, as each has few.

{sweeps}
"""
    return f"""# The mini world's study

`python -m benchmarks.study`: generated images, and the kit's own mini CLIP (one pre-training). Means with
95 % t-intervals over cells (auxiliary set x draw), seeds averaged first; a cell's runs share their data.
Hand-written and trivial methods have one run a draw. Of {wordings} hand-written wordings those are
shown that are best in a metric on `{VALIDATION}`; *silent* is the same wording read by the twin to which
state words said nothing.

{means_table(results, TEST)}

{means_table(results, ORGANS)}

{gains_table(results)}
{sweeps}
By category, then by kind of defect (both test sets, all runs):

{groups_table(results, defects=False)}

{groups_table(results, defects=True)}
"""


def excerpt(results: pd.DataFrame) -> str:
    """The means and gains, for the kit's pages."""
    return f"{means_table(results, TEST)}\n\n{gains_table(results)}"


def write_document() -> None:
    """Write `study.md` beside the committed runs."""
    write_text(RESULTS / "study.md", document(load_study()))


def _row(cells: list[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _percent(mean: float, half: float, sign: str = "") -> str:
    return plus_minus(100 * mean, 100 * half, sign)
