"""Notebook 1: CLIP's features."""

import math

from fap_lib.clip.image_tower import ImageTower
from fap_lib.lessons.exercises import Exercise, equals


def _patches_at_twice_the_size(tower: ImageTower) -> int:
    return 4 * tower.grid**2


def _attention() -> list[float]:
    """Softmax of the products 0, 0 and 4 over the root of two."""
    powers = [math.exp(product / math.sqrt(2)) for product in (0, 0, 4)]
    return [power / sum(powers) for power in powers]


EXERCISES = {
    "01.1": Exercise(
        equals(_patches_at_twice_the_size),
        (
            "A patch keeps its size in pixels when the image grows.",
            "Twice as many rows, and twice as many columns.",
            "Square twice `tower.grid`.",
        ),
    ),
    "01.2": Exercise(
        equals(_attention(), tolerance=0.01),
        (
            "What is the product of the last patch with each of the three?",
            "The products are 0, 0 and 4; divide them by the root of two.",
            "e to the power of each, divided by the sum of all three.",
        ),
    ),
    "01.3": Exercise(
        equals(0.9),
        (
            "AUROC is a share of pairs: an anomalous patch and a normal one, in the right order.",
            "Turning the map over swaps every pair.",
        ),
    ),
}
