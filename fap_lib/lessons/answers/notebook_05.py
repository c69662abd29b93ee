"""Notebook 5: evaluating a dataset."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fap_lib.lessons.exercises import Exercise, equals, satisfies


def _bends_one_aupro(
    answer: Callable[[Tensor], Tensor], toy_map: Tensor, mask: Tensor, both: Callable[..., Any]
) -> bool:
    """Whether a function keeps the order of a map's values and parts exact from official AUPRO."""
    bent = answer(toy_map)
    kept = torch.equal(bent.flatten().argsort(), toy_map.flatten().argsort())
    exact, official = both(bent, mask)
    return kept and official.value is not None and abs(exact.value - official.value) > 0.1


EXERCISES = {
    "05.1": Exercise(
        equals(4.5 / 6),
        (
            "AUROC is a share of pairs. How many pairs are there here?",
            "Of six pairs 0.7 wins three. A tie counts half.",
            "0.4 loses one, ties one, wins one.",
        ),
    ),
    "05.2": Exercise(
        equals((0.5, 105 / 111)),
        (
            "PRO treats regions alike, whatever their size; the other treats pixels alike.",
            "PRO is the mean of three shares; the other is a sum of pixels over 111.",
        ),
    ),
    "05.3": Exercise(
        satisfies(_bends_one_aupro),
        (
            "The official AUPRO takes evenly spaced thresholds. How must values lie to escape them?",
            "Push most values close together, and keep their order.",
            "A power does it, if it is not too high: `def answer(values): return values ** ...`",
        ),
    ),
}
