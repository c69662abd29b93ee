"""Notebook 11: the explorer."""

from collections.abc import Callable

import numpy as np

from fap_lib.lessons.exercises import Exercise, equals, satisfies


def _is_best(answer: float, quality: Callable[[float], float]) -> bool:
    return quality(answer) >= max(quality(step / 100) for step in range(101)) - 0.01


def _same_peak(values: np.ndarray) -> int:
    """How many single prompts peak where the prototype does; values (1 + K, N), the prototype first."""
    return int((values[1:].argmax(1) == values[0].argmax()).sum())


EXERCISES = {
    "11.1": Exercise(
        satisfies(_is_best),
        (
            "Look at both sides of your threshold.",
            "`quality(step / 100)` for all steps from 0 to 100; which is the largest?",
        ),
    ),
    "11.2": Exercise(
        equals(_same_peak),
        (
            "Prompt 0 is the prototype; prompts 1 to K are the single ones.",
            "Compare `argmax` over the patches.",
        ),
    ),
    "11.3": Exercise(
        satisfies(lambda answer, wrong: bool(wrong(answer))),
        (
            "This one is judged rightly. Try a defect that changes parts instead of colours.",
            "`wrong(index)` says it of any image; try them in order.",
        ),
    ),
}
