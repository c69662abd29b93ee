"""Exercises: cells ask and do not answer, hints come in steps, and no answer ends in an error."""

import ast
import math
import re
from inspect import signature
from types import SimpleNamespace
from unittest.mock import MagicMock

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fap_lib.core.errors import KitError
from fap_lib.lessons import exercises
from fap_lib.lessons.exercises import RIGHT, check, checked, equals, hint, satisfies
from fap_lib.lessons.outputs import notebooks

CHECKS = ("check", "checked")
EACH = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch):
    monkeypatch.setattr(exercises, "_told", type(exercises._told)())


def calls(path) -> list[ast.Call]:
    """The calls of `check` in a notebook's cells, in their order."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    nodes = [node for cell in cells for node in ast.walk(ast.parse(cell.source))]
    return [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") in CHECKS]


@EACH
def test_cells_ask_and_do_not_answer(path):
    found = calls(path)
    numbers = [call.args[0].value for call in found]
    assert numbers == list(exercises.exercises(path.stem[:2]))
    assert numbers == [f"{path.stem[:2]}.{place}" for place in range(1, len(numbers) + 1)]
    for call in found:
        assert len(call.args) == 2
        given = [word.value for word in call.keywords if word.arg != "instead"]
        assert all(isinstance(value, ast.Name) for value in given), "values, not computations"


@EACH
def test_hints_come_in_steps(path):
    for number, exercise in exercises.exercises(path.stem[:2]).items():
        assert len(exercise.hints) >= 2, number
        assert all(re.match(r".+[.?`)]$", text) for text in exercise.hints), number


def needs(judge) -> bool:
    """Whether a judge wants something of its notebook."""
    inner = [cell.cell_contents for cell in judge.__closure__ or ()]
    wanted = [signature(function) for function in (judge, *inner) if callable(function)]
    return any("sample" in each.parameters or each is not wanted[0] for each in wanted)


STRANGE = (
    *(5, -1.0, math.nan, True, 1j, "word", b"", [], ["a", 1], {}, (1, 2, 3), [[1], [2, 3]]),
    *(object(), lambda: 0, int, MagicMock(), np.zeros((0, 3)), torch.zeros(2, 3)),
    torch.tensor(1.0, requires_grad=True),
)


@pytest.mark.parametrize("answer", STRANGE, ids=lambda answer: type(answer).__name__)
def test_no_answer_ends_in_an_error(answer, capsys, monkeypatch):
    truths = (1.5, "better", (0.5, 2.0), ["a", "b"], torch.ones(2, 2))
    for truth in truths:
        assert all(isinstance(step.said, str) for step in equals(truth)(answer))
    never = exercises.Exercise(satisfies(lambda given: given.shape == (2,) and given(1) > 9), ("?", "?"))
    monkeypatch.setattr(
        exercises, "find", lambda number, find=exercises.find: find(number) if number else never
    )
    check("", answer)
    for path in notebooks():
        for number, exercise in exercises.exercises(path.stem[:2]).items():
            if not needs(exercise.judge):
                check(number, answer)
    assert capsys.readouterr().out.count("Not yet.") >= 15


def test_a_wrong_kind_is_named(capsys):
    check("02.2", "three")
    check("02.2", [1.5, 1.5])
    check("06.2", 5)
    check("09.1", 5)
    said = capsys.readouterr().out
    for part in (
        "A number is wanted, and this is of type str.",
        "A number is wanted, and this is of type list and has the shape (2,).",
        "A word is wanted, in quotes, and this is of type int.",
        "A list is wanted, and this is of type int.",
    ):
        assert part in said


def test_an_answer_without_the_asked_shape_is_not_an_error(capsys):
    static = SimpleNamespace(normal=torch.eye(4)[0], abnormal=torch.randn(3, 4))
    patches = torch.randn(2, 5, 4)
    check("02.3", 5, patches=patches, static=static, temperature=0.07)
    largest = (patches @ F.normalize(static.abnormal, dim=-1).T).amax(-1)
    right = ((largest - patches @ static.normal) / 0.07).sigmoid()
    check("02.3", right, patches=patches, static=static, temperature=0.07)
    said = capsys.readouterr().out
    assert said.startswith("Not yet. Numbers of shape (2, 5) are wanted, and this is of type int.")
    assert said.endswith(f"{RIGHT}\n")


def test_hints_follow_one_another(capsys):
    hints = exercises.find("02.1").hints
    check("02.1", ...)
    check("02.1", 5)
    check("02.1", 6)
    for _ in hints:
        hint("02.1")
    check("02.1", 43776)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("No answer yet")
    assert said[2] == f"Hint 1 of 3: {hints[0]}"
    assert said[4] == 'For the next hint: hint("02.1")'
    assert [line for line in said if line.startswith("Hint")] == [
        f"Hint {place} of 3: {text}" for place, text in enumerate(hints, start=1)
    ]
    assert said[-1] == RIGHT
    assert [line for line in said if line.startswith("- ")] == [f"- {text}" for text in hints]


def test_a_wrong_number_is_named():
    with pytest.raises(KitError, match=r"no exercise '02.9'; the nearest is '02\.\d'"):
        check("02.9", 1)
    with pytest.raises(KitError, match="no exercise 'two'"):
        hint("two")


def whole(x):
    return x + 1


def part(x):
    y = ...
    return y or x


class Stub:
    def forward(self): ...


@pytest.mark.parametrize("answer", [..., None, part, Stub])
def test_dots_are_no_answer(answer, capsys):
    check("02.1", answer)
    assert capsys.readouterr().out.startswith("No answer yet")


def test_a_lesson_goes_on_with_a_right_answer_or_the_librarys(capsys, monkeypatch):
    def judge(answer, least):
        yield exercises.Step(True, "it can be called")
        yield exercises.Step(answer(1) >= least, "it is large enough")

    monkeypatch.setattr(exercises, "find", lambda _: exercises.Exercise(judge, ("Add one.", "x + 1")))
    assert checked("13.1", whole, instead=max, least=2) is whole
    assert capsys.readouterr().out == f"ok  it can be called\nok  it is large enough\n{RIGHT}\n"
    for wrong in (whole, 5):
        assert checked("13.1", wrong, instead=max, least=3) is max
    said = capsys.readouterr().out
    assert "Not yet. it is large enough" in said
    assert "Trying it ended in TypeError" in said
