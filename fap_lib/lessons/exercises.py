"""Exercises in notebooks: an answer, a visible check, and no error when there is no answer yet."""

from collections.abc import Callable
from typing import Any

import numpy as np

RIGHT = "Right."


def check(answer: Any, right: Any | Callable[[Any], bool], hint: str, tolerance: float = 1e-4) -> None:
    """Print whether an exercise's answer is right.

    Args:
        answer: the student's; `...` means that there is none yet.
        right: the expected value (a number, a string, a bool, or an array or tensor, compared within
            `tolerance`), or a function that says whether an answer is right.
        hint: said where it is not.
    """
    if answer is Ellipsis or answer is None:
        print("No answer yet: put yours in place of the dots, and run the cell again.")
    elif _fits(answer, right, tolerance):
        print(RIGHT)
    else:
        print(f"Not yet. {hint}")


def _fits(answer: Any, right: Any, tolerance: float) -> bool:
    if callable(right):
        return bool(right(answer))
    if isinstance(right, str | bool):
        return type(answer) is type(right) and answer == right
    try:
        found, wanted = np.asarray(answer, dtype=float), np.asarray(right, dtype=float)
    except (TypeError, ValueError, RuntimeError):
        return False
    return found.shape == wanted.shape and bool(np.allclose(found, wanted, rtol=0, atol=tolerance))
