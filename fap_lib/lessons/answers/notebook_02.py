"""Notebook 2: compound prompts."""

import torch.nn.functional as F
from torch import Tensor

from fap_lib.lessons.exercises import Exercise, equals
from fap_lib.model import StaticText


def _map_of_the_maximum(patches: Tensor, static: StaticText, temperature: float) -> Tensor:
    """Abnormal probability (B, N) by the largest of K cosines."""
    largest = (patches @ F.normalize(static.abnormal, dim=-1).cpu().T).amax(-1)
    return ((largest - patches @ static.normal.cpu()) / temperature).sigmoid()


EXERCISES = {
    "02.1": Exercise(
        equals(5 * 768 + 10 * 2 * 768 + 8 * 4 * 768),
        (
            "CAP has three learned tensors: `normal`, `abnormal` and `deep`.",
            "Their shapes are (E, w), (K, E', w), and (layers, deep tokens, w).",
            "Multiply the sides of each, then add: 5 x 768 + 10 x 2 x 768 + ...",
        ),
    ),
    "02.2": Exercise(
        equals(1.5),
        (
            "How many pairs are there, and what is the cosine of each?",
            "The cosine of 120 degrees is -0.5, and the loss takes its absolute value.",
        ),
    ),
    "02.3": Exercise(
        equals(_map_of_the_maximum, tolerance=1e-3),
        (
            "Cosines need unit length: bring the K abnormal features to it first.",
            "`(patches @ abnormal.T).amax(-1)` is the largest cosine of each patch.",
            "A softmax over two logits is the sigmoid of their difference; mind the temperature.",
        ),
    ),
}
