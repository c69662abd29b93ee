"""Notebook 4: training the prompts."""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from fap_lib.lessons.exercises import Exercise, equals, satisfies


def _is_focal_loss(answer: Callable[[Tensor, Tensor, float], Tensor], p: Tensor, mask: Tensor) -> bool:
    """Whether a function is the focal loss for gamma 0 (plain cross-entropy) and for gamma 2."""
    each = F.binary_cross_entropy(p, mask, reduction="none")
    wanted = {gamma: float(((1 - (-each).exp()) ** gamma * each).mean()) for gamma in (0, 2)}
    return all(abs(float(answer(p, mask, gamma)) - value) < 1e-5 for gamma, value in wanted.items())


EXERCISES = {
    "04.1": Exercise(
        equals(1 - 2 / 4),
        (
            "You need three numbers: the overlap, the area of the map, and that of the mask.",
            "Overlap 0.5, area of the map 2, of the mask 1.",
            "The formula adds a 1 above and a 1 below; do not forget to double the overlap.",
        ),
    ),
    "04.2": Exercise(
        equals(0.1**2 * -math.log(0.9)),
        (
            "What is the probability of the truth here?",
            "p of the truth is 0.9: (1 - 0.9)^2 times -log 0.9.",
        ),
    ),
    "04.3": Exercise(
        satisfies(_is_focal_loss),
        (
            "First the probability of the truth of each pixel: p where the mask is 1, 1 - p where it is 0.",
            "Call it p_t. A pixel costs (1 - p_t)^gamma times -log p_t.",
            "The loss is the mean over pixels; it must be a function: `def answer(p, mask, gamma): ...`",
        ),
    ),
}
