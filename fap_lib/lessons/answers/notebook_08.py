"""Notebook 8: ablations."""

import numpy as np
import pandas as pd
from scipy.stats import t as student

from fap_lib.lessons import study
from fap_lib.lessons.exercises import Exercise, equals


def _half_width(six: np.ndarray) -> float:
    return float(student.ppf(0.975, len(six) - 1) * six.std(ddof=1) / len(six) ** 0.5)


def _aupro_on_organs(results: pd.DataFrame) -> float:
    there = study.differences(results, (study.FULL,), over="CAP + DAP, released", test=study.ORGANS)
    return float(there[there.metric == "aupro_official"]["mean"].iloc[0])


EXERCISES = {
    "08.1": Exercise(
        equals(_half_width, tolerance=0.005),
        (
            "A half width is a quantile times a standard error.",
            "The standard error is s (ddof=1) over the root of 6.",
            "The quantile is that of t with 5 degrees of freedom: `student.ppf(0.975, 5)`.",
        ),
    ),
    "08.2": Exercise(
        equals(1 - 0.95**20, tolerance=0.005),
        (
            "First: how likely is it that none does?",
            "One interval holds zero with probability 0.95, twenty independent ones with 0.95 to the 20th.",
        ),
    ),
    "08.3": Exercise(
        equals(_aupro_on_organs, tolerance=0.05),
        (
            "`study.differences` compares methods over another one, on a test set.",
            '`over="CAP + DAP, released"` and `test="mini-organs"`.',
            'Take the row whose `metric` is "aupro_official", and of it `mean`.',
        ),
    ),
}
