"""Exercises in notebooks: an answer, a visible check, and hints in steps.

What is right, and the hints, stand in `fap_lib.lessons.answers`, a module a notebook; a cell asks and does
not answer. No answer, of whatever kind, ends in an error.
"""

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from fap_lib.core.errors import KitError, nearest

RIGHT = "Right."


class Step(NamedTuple):
    """One step of a judgement: whether the answer passed it, and what there is to say."""

    passed: bool
    said: str = ""


Judge = Callable[..., Iterator[Step]]
"""Takes an answer and what the notebook passes by name; gives steps, easy ones first."""

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

    def judge(answer: Any, **values: Any) -> Iterator[Step]:
        wrong = difference(answer, truth(**values) if callable(truth) else truth, tolerance)
        yield Step(not wrong, wrong)

    return judge


def satisfies(condition: Callable[..., bool]) -> Judge:
    """A judge for answers of which several are right, or which are functions.

    Args:
        condition: of the answer and what the notebook passes by name. It may fail on an answer of another
            kind.
    """

    def judge(answer: Any, **values: Any) -> Iterator[Step]:
        right = condition(answer, **values)
        yield Step(right, "" if right else "It does not do what is asked.")

    return judge


def check(number: str, answer: Any, **values: Any) -> None:
    """Print whether an exercise's answer is right; where it is not, what is wrong, and at first a hint.

    Args:
        number: notebook and exercise, such as "02.1".
        answer: the student's; `...`, or a function with `...` left in it, means that there is none yet.
        values: what the notebook computed and the right answer depends on.

    Raises:
        KitError: there is no such exercise.
    """
    _judged(number, answer, values)


def checked(number: str, answer: Any, instead: Any, **values: Any) -> Any:
    """What the lesson goes on with: the student's answer where `check` finds it right, else the library's.

    Args:
        instead: the library's function or class, with the same signature.

    Raises:
        KitError: there is no such exercise.
    """
    if _judged(number, answer, values):
        return answer
    print("Until yours is right, this lesson goes on with the library's.")
    return instead


def _judged(number: str, answer: Any, values: dict[str, Any]) -> bool:
    """Whether an answer is right; prints all there is to say."""
    exercise = find(number)
    if _unanswered(answer):
        print("No answer yet: put yours in place of the dots, and run the cell again.")
        return False
    steps = exercise.judge(answer, **values)
    while True:
        try:
            step = next(steps)
        except StopIteration:
            print(RIGHT)
            return True
        except Exception as error:
            # Whatever a student's object raises says something about that object.
            step = Step(False, f"Trying it ended in {type(error).__name__}: {error}.")
        if not step.passed:
            print(f"Not yet. {step.said}")
            if _told[number]:
                print(f'For the next hint: hint("{number}")')
            else:
                hint(number)
            return False
        if step.said:
            print(f"ok  {step.said}")


def _unanswered(answer: Any) -> bool:
    """Whether there are dots in place of an answer, or of a part of a function's or class's body."""
    if answer is Ellipsis or answer is None:
        return True
    # A class's own source is not to be had in a notebook, that of its functions is.
    parts = vars(answer).values() if inspect.isclass(answer) else [answer]
    return any(_has_dots(part) for part in parts if inspect.isfunction(part))


def _has_dots(function: Callable[..., Any]) -> bool:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):  # no source, or a lambda cut out of its line
        return False
    return any(
        isinstance(node, ast.Expr | ast.Assign | ast.Return)
        and isinstance(node.value, ast.Constant)
        and node.value.value is Ellipsis
        for node in ast.walk(tree)
    )


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


def difference(answer: Any, wanted: Any, tolerance: float = 1e-4) -> str:
    """What is wrong with an answer, in a sentence; empty where it is the wanted value.

    Args:
        wanted: a number, a word, a list of words, or numbers of some shape.
    """
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
