"""Notebook 3: the abnormality prior."""

from typing import Any

import torch
from torch import Tensor

from fap_lib.lessons.exercises import Exercise, equals, satisfies
from fap_lib.lessons.probing import under
from fap_lib.model import FAPrompt, StaticText


def _changes_no_map(answer: Any, model: FAPrompt, image: Tensor, patches: Tensor, static: StaticText) -> bool:
    """Whether prompts with this prior make the map (B, N) that they make without one."""
    none = torch.zeros(1, model.text_tower.width, device=static.normal.device)
    with torch.inference_mode():
        wanted, given = (under(model, image, patches, static, prior)[0] for prior in (none, answer))
    return torch.allclose(given, wanted, atol=1e-4)


EXERCISES = {
    "03.1": Exercise(
        equals((7680 * 480 + 480) + (480 * 768 + 768)),
        (
            "What is the width of ten patches laid end to end, and a sixteenth of it?",
            "7680 to 480 to 768; each layer has a matrix, and a bias for each output.",
        ),
    ),
    "03.2": Exercise(
        satisfies(_changes_no_map),
        (
            "What can be added to a token without changing it?",
            "A tensor of that, of shape (1, model.text_tower.width), on lesson.device.",
        ),
    ),
    "03.3": Exercise(
        equals([3.0, 1.0]),
        (
            "The released loss is a sum over the normal images of the batch.",
            "Six times 0.5 against two times 0.5; and the means of both.",
        ),
    ),
}
