"""Notebook 7: what prompts mean."""

import numpy as np
import pandas as pd

from fap_lib.data.features import FeatureCache
from fap_lib.lessons import interpretation
from fap_lib.lessons.exercises import Exercise, equals

SPOT = "a black spot with a brown edge"


def _nearest_prompt(features: np.ndarray, known: np.ndarray, sentences: list[str]) -> int:
    return 1 + int((features[1:] @ known[sentences.index(SPOT)]).argmax())


def _auroc_of_the_maximum(maps: np.ndarray, cache: FeatureCache, anomalous: np.ndarray) -> float:
    largest = maps.max(axis=1, keepdims=True)
    return float(interpretation.by_defect(largest, cache, anomalous).to_numpy().mean())


def _same_choice(halves: list[pd.DataFrame]) -> float:
    return float((halves[0].idxmax(axis=1) == halves[1].idxmax(axis=1)).mean())


EXERCISES = {
    "07.1": Exercise(
        equals(_nearest_prompt),
        (
            "Which row of `known` belongs to the sentence? `sentences.index` finds it.",
            "Cosines of `features[1:]` with that row of `known`.",
            "`argmax` counts from 0, prompts count from 1.",
        ),
    ),
    "07.2": Exercise(
        equals(_auroc_of_the_maximum, tolerance=1e-3),
        (
            "Take the maximum over the axis of prompts, and keep that axis.",
            "`by_defect` wants (n, K, N); a single map has K = 1.",
            "Then the mean of the table that `by_defect` gives.",
        ),
    ),
    "07.3": Exercise(
        equals(_same_choice),
        (
            "Each half is a table with a row a kind and a column a prompt. Which column is best in a row?",
            "`idxmax(axis=1)` of each half, compared; then the mean.",
        ),
    ),
}
