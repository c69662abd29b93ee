"""Notebook 0: start here."""

from fap_lib.lessons.exercises import Exercise, equals
from fap_lib.model import Prediction


def _peak(prediction: Prediction) -> tuple[int, int]:
    """Row and column of the first image's most abnormal patch."""
    patches = prediction.patch_map[0]
    row, column = divmod(int(patches.argmax()), round(len(patches) ** 0.5))
    return row, column


EXERCISES = {
    "00.1": Exercise(
        equals(lambda prediction: float(prediction.score[0])),
        (
            "Read the formula of the score above from the inside out.",
            "The static map's maximum weighs two thirds, the adapted one's one third.",
            "Half of (whole + two thirds of static + one third of adapted).",
        ),
    ),
    "00.2": Exercise(
        equals(_peak),
        (
            "Find the patch first, as one number; row and column follow from it.",
            "`grids['anomaly map'].argmax()` counts patches row by row.",
            "Divide that number by `tower.grid`: the whole part is the row, the rest the column.",
        ),
    ),
}
