"""Notebook 10: one's own images."""

from collections.abc import Callable

from fap_lib.lessons.exercises import Exercise, equals, satisfies

FACTORS = [step / 10 for step in range(2, 11)]


def _is_such_a_light(answer: float | str, alarms: Callable[[float], float]) -> bool:
    """Whether a quarter is flagged at this brightness; or whether "none" is true of all."""
    if answer == "none":
        return max(alarms(factor) for factor in FACTORS) < 0.25
    return 0.2 <= float(answer) <= 1 and alarms(float(answer)) >= 0.25


EXERCISES = {
    "10.1": Exercise(
        equals(199),
        (
            "The threshold is the k-th smallest score, so k must not exceed n.",
            "k = ceil((n + 1)(1 - alpha)) must not exceed n, so (n + 1) alpha is at least 1.",
        ),
    ),
    "10.2": Exercise(
        equals(2 / 20),
        (
            "With a new score there are 20 places in the ranking, and each is as likely as the others.",
            "The percentile lies between the two largest scores. Which places can be above it?",
            "Above the second largest score are 2 of 20 places; where in the gap, is unknown.",
        ),
    ),
    "10.3": Exercise(
        satisfies(_is_such_a_light),
        (
            "Print `alarms(factor)` for factors from 0.2 to 1.",
            "The first factor whose share is at least 0.25 will do; if there is none, the answer is 'none'.",
        ),
    ),
}
