"""Reading the study of the mini world: paired differences between methods, with intervals.

The runs are committed (`benchmarks/results/study.csv`, made by `python -m benchmarks.study`); a row is one
method on one auxiliary set, draw of the data and seed, tested on one set and category.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from fap_lib.core import paths
from fap_lib.core.errors import KitError, nearest
from fap_lib.evaluation.scoring import MEAN

TEST, ORGANS, VALIDATION = "mini-test", "mini-organs", "mini-val"

FULL, SINGLE = "CAP + DAP, paper", "single prompt"

METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_auroc_foreground": "the same in the foreground",
    "aupro_official": "AUPRO official",
}

COMPARED = ("image_auroc", "pixel_auroc", "aupro_official")

SWEEPS: dict[str, dict[str, dict[str, Any]]] = {
    "K, abnormality prompts": {f"K = {n}": {"model": {"n_prompts": n}} for n in (1, 2, 5, 15)},
    "M, patches the prior sees": {f"M = {n}": {"model": {"n_patches": n}} for n in (1, 5, 20, 50)},
    "E, normal tokens": {f"E = {n}": {"model": {"normal_tokens": n}} for n in (4, 8, 12)},
    "E', abnormal tokens": {f"E' = {n}": {"model": {"abnormal_tokens": n}} for n in (1, 4, 8)},
    "losses": {
        "no orthogonality": {"training": {"orthogonal_weight": 0.0}},
        "no prior loss": {"training": {"prior_weight": 0.0}},
        "no image cross-entropy": {"training": {"image_ce_weight": 0.0}},
        "adapted map weighs 1": {"training": {"pixel_adapted_weight": 1.0}},
    },
    "prompts": {
        "no deep tokens": {"model": {"deep_layers": 0}},
        "no word for damage": {"model": {"abnormal_word": ""}},
    },
    "epochs": {
        "half the epochs": {"training": {"epochs": 4}},
        "twice the epochs": {"training": {"epochs": 16}},
    },
}
"""What each sweep asks, and its methods: `FULL` with one setting changed, tested on `TEST` alone.

`FULL` itself has K = 10, M = 10, E = 5, E' = 2 and 8 epochs."""

SWEPT = tuple(name for names in SWEEPS.values() for name in names)


def load_study() -> pd.DataFrame:
    """The committed runs."""
    return pd.read_csv(paths.STUDY)


def of(results: pd.DataFrame, test: str, category: str = MEAN) -> pd.DataFrame:
    """The rows of one test set and category."""
    return results[(results.test == test) & (results.category == category)]


def interval(values: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Mean and half width of a 95 % t-interval over cells (auxiliary set x draw), seeds averaged first.

    Runs that share their data are not independent, so each cell counts once. The half width is NaN where
    there are fewer than two cells, or one has no value.
    """
    cells = values.groupby(["train", "draw"])[metric].mean()
    if len(cells) < 2 or cells.isna().any():
        return float(cells.mean()), math.nan
    half = student.ppf(0.975, len(cells) - 1) * cells.std(ddof=1) / math.sqrt(len(cells))
    return float(cells.mean()), float(half)


def paired(
    results: pd.DataFrame, method: str, over: str, metric: str, test: str, keys: tuple[str, ...]
) -> pd.DataFrame:
    """The runs of a method with `gain`, the difference to the runs of `over` that share their `keys` (to the
    mean of these, where there are several).

    Args:
        keys: such as `("train", "draw", "seed")`, or less where `over` depends on less.
    """
    means = of(results, test)
    base = means[means.method == over].groupby(list(keys))[metric].mean().rename("base")
    pairs = means[means.method == method].join(base, on=list(keys))
    return pairs.assign(gain=pairs[metric] - pairs["base"])


def differences(
    results: pd.DataFrame, methods: tuple[str, ...], over: str = FULL, test: str = TEST
) -> pd.DataFrame:
    """Paired differences of several methods to one, in points (hundredths).

    Each run is compared with the mean of all runs of `over` on the same auxiliary set and draw. Two trainings
    of the same seed have hardly more in common than two of different seeds (`shared_luck`), so that the seeds
    of `over` are better averaged.

    Returns:
        A row a method and metric, without the methods that have no run: `method`, `metric`, `runs`, `cells`
        (a list of the cells' own differences), their `mean`, and half widths of 95 % intervals: `half` from
        the method's own cells; `pooled` from the spread of all methods' cells about their means, which is
        all there is to go by where a method has two or three cells; `wide`, the same for all methods of a
        metric at once (Bonferroni). NaN where there is no spread to go by.

    Raises:
        KitError: `over` has no run.
    """
    known = set(results.method)
    if over not in known:
        raise KitError(f"the study has no runs of {over!r}; the nearest is {nearest(over, known)!r}.")
    rows = []
    for metric in COMPARED:
        found = {}
        for method in methods:
            pairs = paired(results, method, over, metric, test, ("train", "draw"))
            if len(pairs):
                found[method] = pairs.assign(gain=100 * pairs["gain"])
        cells = {name: each.groupby(["train", "draw"])["gain"].mean() for name, each in found.items()}
        freedom = sum(len(each) - 1 for each in cells.values())
        squares = sum(float(((each - each.mean()) ** 2).sum()) for each in cells.values())
        for method, pairs in found.items():
            mean, half = interval(pairs, "gain")
            error = math.sqrt(squares / freedom / len(cells[method])) if freedom else math.nan
            pooled, wide = (student.ppf(1 - 0.025 / many, freedom) * error for many in (1, len(found)))
            rows.append([method, metric, len(pairs), cells[method].tolist(), mean, half, pooled, wide])
    columns = ["method", "metric", "runs", "cells", "mean", "half", "pooled", "wide"]
    return pd.DataFrame(rows, columns=columns)


def shared_luck(
    results: pd.DataFrame, methods: tuple[str, ...], over: str = FULL, test: str = TEST
) -> pd.DataFrame:
    """Does it help to compare runs of the same seed, or of the same data? Correlations with `over`.

    Returns:
        A row a metric: `seeds`, of a cell's runs over its seeds; `cells`, of cells' means; both the mean
        over `methods`. Where a correlation is high, pairing takes noise away; at 0 it does nothing.
    """
    means = of(results, test)
    keys = ["train", "draw", "seed"]
    rows = {}
    for metric in COMPARED:
        wide = means.pivot_table(index=keys, columns="method", values=metric)
        cells = wide.groupby(["train", "draw"]).mean()
        within = wide - cells.reindex(wide.droplevel("seed").index).to_numpy()
        rows[METRICS[metric]] = {
            "seeds": float(np.mean([within[over].corr(within[name]) for name in methods])),
            "cells": float(np.mean([cells[over].corr(cells[name]) for name in methods])),
        }
    return pd.DataFrame(rows).T


def spread(results: pd.DataFrame, method: str, test: str = TEST) -> pd.DataFrame:
    """Where a method's results vary, in points: standard deviations, a row a metric.

    `seeds`: within cells; `draws`: of cells within an auxiliary set; `sets`: half the difference of the sets'
    means (two sets have no more to tell). Means of seeds still hold some of their noise.
    """
    own = of(results, test)
    own = own[own.method == method]
    rows = {}
    for metric in COMPARED:
        cells = own.groupby(["train", "draw"])[metric]
        by_set = cells.mean().groupby("train")
        rows[METRICS[metric]] = {
            "seeds": 100 * math.sqrt(cells.var(ddof=1).mean()),
            "draws": 100 * math.sqrt(by_set.var(ddof=1).mean()),
            "sets": 50 * float(np.ptp(by_set.mean())),
        }
    return pd.DataFrame(rows).T
