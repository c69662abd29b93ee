"""Notebook 9: paper against code."""

from torch import Tensor

from fap_lib.lessons import effects
from fap_lib.lessons.exercises import Exercise, equals
from fap_lib.official.ledger import rows


def _differ_by_mode() -> list[str]:
    return [row.id for row in rows() if row.values and row.values["paper"] != row.values["released"]]


def _pixels_of_the_jpeg(mask: Tensor) -> int:
    return int(effects.jpeg_masks(mask, quality=95).sum())


EXERCISES = {
    "09.1": Exercise(
        equals(_differ_by_mode),
        (
            "A row's `values` is a dict with the keys paper and released, or empty.",
            "Keep the `id` of each row whose two values differ.",
        ),
    ),
    "09.2": Exercise(
        equals(1.005e-6, tolerance=2e-7),
        (
            "The loss takes what it is given for a logit. Which logit has the probability 0.99?",
            "`torch.logit(score)` in place of the score; the loss then sees the probability itself.",
        ),
    ),
    "09.3": Exercise(
        equals(_pixels_of_the_jpeg),
        ("`effects.jpeg_masks` takes a quality.", "Sum what it gives for `mask` and `quality=95`."),
    ),
}
