"""Notebook 6: comparing results."""

from fap_lib.lessons.exercises import Exercise, equals

EXERCISES = {
    "06.1": Exercise(
        equals(8**0.5, tolerance=0.01),
        (
            "How far are both from their mean?",
            "Both are 2 away; divide the sum of squares by n - 1, and take the root.",
        ),
    ),
    "06.2": Exercise(
        equals("better"),
        (
            "Look up the preferred value for VisA, and the tolerance of image AUROC.",
            "The preferred value is 84.6; is 86.0 further away than the tolerance?",
        ),
    ),
    "06.3": Exercise(
        equals(1.9, tolerance=0.01),
        (
            "Leave rows out of `reported` before you ask for tolerances.",
            '`reported["dataset"] != "mpdd"` says which rows stay.',
            'Then `tolerances(...)["pixel", "aupro_official"]`.',
        ),
    ),
}
