"""Notebook 12: what a number depends on."""

import numpy as np
from torch import Tensor

from fap_lib.lessons import dependence
from fap_lib.lessons.exercises import Exercise, equals
from fap_lib.lessons.lesson import Lesson


def _change_in_another_order(
    plain: Tensor, masks: Tensor, order: np.ndarray, index: np.ndarray, lesson: Lesson
) -> float:
    """Points of pixel AUROC between batches of four and of one, with the images in another order."""
    many, one = (
        dependence.pixel_figures(
            lesson.cache,
            index[order],
            dependence.smoothed_in_batches(plain[order], lesson.profile.scoring.sigma, batch),
            masks[order],
        )["auroc"]
        for batch in (4, 1)
    )
    return 100 * (many - one)


def _what_others_make_of_the_first_ones_epoch(by_epoch: np.ndarray) -> float:
    return float(100 * (by_epoch[:, by_epoch[0].argmax()].mean() - by_epoch[:, -1].mean()))


EXERCISES = {
    "12.1": Exercise(
        equals((1.0, 0.75)),
        (
            "Macro: one AUROC a category, then their mean. Micro: one ranking of all four.",
            "In one ranking there are two times two pairs. Which of them are out of order?",
        ),
    ),
    "12.2": Exercise(
        equals(_change_in_another_order, tolerance=0.02),
        (
            "Index everything with `order`: `plain[order]`, `masks[order]`, `index[order]`.",
            'Ask `dependence.pixel_figures(cache, index[order], maps, masks[order])` for "auroc", twice.',
            "A hundred times the value of four minus that of one.",
        ),
    ),
    "12.3": Exercise(
        equals(_what_others_make_of_the_first_ones_epoch, tolerance=0.01),
        (
            "`by_epoch[0].argmax()` is the epoch that looks best for seed 0.",
            "The mean over seeds is `by_epoch.mean(0)`; compare it at that epoch and at the last.",
        ),
    ),
}
