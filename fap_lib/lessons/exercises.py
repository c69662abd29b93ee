"""Exercises in notebooks: an answer, a visible check, and hints in steps.

What is right, and the hints, stand in `fap_lib.lessons.answers`, a module a notebook; a cell asks and does
not answer. No answer, of whatever kind, ends in an error.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from fap_lib.core.errors import KitError, nearest

RIGHT = "Right."

Judge = Callable[..., str]
"""Takes an answer and what the notebook passes by name; says what is wrong with the answer, or nothing."""

_told: Counter[str] = Counter()  # hints given so far, by exercise


@dataclass(frozen=True)
class Exercise:
    """One exercise: how answers are judged, and hints, from a nudge to nearly the whole answer."""

    judge: Judge
    hints: tuple[str, ...]


def equals(truth: Any, tolerance: float = 1e-4) -> Judge:
    """A judge for answers with one value.

    Args:
        truth: a number, a string, or an array or tensor; or a function that computes it from what the
            notebook passes.
        tolerance: largest difference of a number that is let through.
    """

    def judge(answer: Any, **values: Any) -> str:
        wanted = truth(**values) if callable(truth) else truth
        return _difference(answer, wanted, tolerance)

    return judge


def satisfies(condition: Callable[..., bool]) -> Judge:
    """A judge for answers of which several are right, or which are functions.

    Args:
        condition: of the answer and what the notebook passes by name. It may fail on an answer of another
            kind.
    """

    def judge(answer: Any, **values: Any) -> str:
        try:
            return "" if condition(answer, **values) else "It does not do what is asked."
        except Exception as error:
            # Whatever a student's object raises says something about that object.
            return f"Trying it ended in {type(error).__name__}: {error}."

    return judge


def check(number: str, answer: Any, **values: Any) -> None:
    """Print whether an exercise's answer is right; where it is not, what is wrong, and at first a hint.

    Args:
        number: notebook and exercise, such as "02.1".
        answer: the student's; `...` means that there is none yet.
        values: what the notebook computed and the right answer depends on.

    Raises:
        KitError: there is no such exercise.
    """
    exercise = find(number)
    if answer is Ellipsis or answer is None:
        print("No answer yet: put yours in place of the dots, and run the cell again.")
    elif wrong := exercise.judge(answer, **values):
        print(f"Not yet. {wrong}")
        if _told[number]:
            print(f'For the next hint: hint("{number}")')
        else:
            hint(number)
    else:
        print(RIGHT)


def hint(number: str) -> None:
    """Print an exercise's next hint; after the last one all of them.

    Args:
        number: notebook and exercise, such as "02.1".

    Raises:
        KitError: there is no such exercise.
    """
    hints = find(number).hints
    if _told[number] < len(hints):
        _told[number] += 1
        print(f"Hint {_told[number]} of {len(hints)}: {hints[_told[number] - 1]}")
    else:
        print("These were all hints; the solution is folded below the cell.", *hints, sep="\n- ")


def find(number: str) -> Exercise:
    """The exercise of a number such as "02.1".

    Raises:
        KitError: there is none.
    """
    known = exercises(number.split(".")[0])
    if number not in known:
        close = f"; the nearest is {nearest(number, known)!r}" if known else ""
        raise KitError(f"there is no exercise {number!r}{close}.")
    return known[number]


def exercises(notebook: str) -> dict[str, Exercise]:
    """All exercises of a notebook, by number.

    Args:
        notebook: its two digits. One without exercises, or none at all, has no entries.
    """
    module = f"fap_lib.lessons.answers.notebook_{notebook}"
    try:
        found: dict[str, Exercise] = import_module(module).EXERCISES
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return {}
    return found


def _difference(answer: Any, wanted: Any, tolerance: float) -> str:
    if isinstance(wanted, str):
        if not isinstance(answer, str):
            return f"A word is wanted, in quotes, and this is {_kind(answer)}."
        return "" if answer.strip().lower() == wanted else "It is another word."
    right = _numbers(wanted)
    given = _numbers(answer)
    if right is None:  # a list of words
        try:
            return "" if list(answer) == list(wanted) else "It is another list."
        except TypeError:
            return f"A list is wanted, and this is {_kind(answer)}."
    if given is None:
        return f"{_described(right)} wanted, and this is {_kind(answer)}."
    if given.shape != right.shape:
        shape = f" and has the shape {given.shape}" if given.ndim else ""
        return f"{_described(right)} wanted, and this is {_kind(answer)}{shape}."
    return "" if np.allclose(given, right, rtol=0, atol=tolerance) else "Its kind is right, its value is not."


def _numbers(value: Any) -> np.ndarray | None:
    """A value as floats, None where it is not made of numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        return np.asarray(value, dtype=float)
    except Exception:  # students' objects may raise anything when they are asked for numbers
        return None


def _described(right: np.ndarray) -> str:
    return f"Numbers of shape {right.shape} are" if right.ndim else "A number is"


def _kind(answer: Any) -> str:
    return "a function" if callable(answer) else f"of type {type(answer).__name__}"
