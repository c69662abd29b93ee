"""The outputs stored in the notebooks: all made by one command, on the mini profile, and kept small.

Solutions of exercises are run as well: each must satisfy its exercise's check. Where a lesson goes on with
what the student wrote (`exercises.checked`), it is run a second time, with the solutions filled in.
"""

import ast
import os
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from fap_lib.core import paths
from fap_lib.core.errors import KitError, nearest
from fap_lib.core.files import write_text
from fap_lib.core.progress import REPORT, Steps, bar
from fap_lib.lessons.exercises import RIGHT
from fap_lib.runs.notebook import START_TIMEOUT, SocketKernelManager

DOTS = "answer = ..."
"""What a student replaces in an exercise's cell; in others, that call `checked`, a function or a class."""

LIMIT = 400_000
"""Bytes of a notebook with its outputs."""

_TITLE = re.compile(r"# (\d+) · (.+)")
_QUESTION = re.compile(r"\*\*Question\.\*\* (.+?)\n\n", re.DOTALL)
_TIME = re.compile(r"Time: (.+?)(?: on two CPU cores|[;.])", re.DOTALL)
_SOLUTION = re.compile(r"<details>.*?```python\n(.*?)```", re.DOTALL)


def notebooks() -> list[Path]:
    """All notebooks, in their order."""
    return sorted(paths.NOTEBOOKS.glob("*.ipynb"))


def contents() -> str:
    """The notebooks as a Markdown table, from their own heads: number, title with a link, question, time."""
    lines = ["| | notebook | question | on two CPU cores |", "|---|---|---|---|"]
    for path in notebooks():
        head = nbformat.read(path, as_version=4).cells[0].source
        if title := _TITLE.match(head):
            facts = [pattern.search(head) for pattern in (_QUESTION, _TIME)]
            question, time = (" ".join(found[1].split()) if found else "-" for found in facts)
            lines.append(f"| {title[1]} | [{title[2]}]({path.name}) | {question} | {time} |")
    return "\n".join(lines)


def store(names: list[str]) -> None:
    """Run notebooks in order as they are, and store what they print and draw.

    Args:
        names: such as `02_compound_prompts`; none means all.

    Raises:
        KitError: unknown name, a cell that fails, a solution that its check refuses, a notebook that
            becomes too large. A notebook is rewritten only after it ran to its end.
    """
    known = {path.stem: path for path in notebooks()}
    for name in names:
        if name not in known:
            raise KitError(f"there is no notebook {name!r}; the nearest is {nearest(name, known)!r}.")
    chosen = [known[name] for name in known if name in names or not names]
    steps = Steps(len(chosen))
    for path in chosen:
        with steps.step(path.stem):
            text = nbformat.writes(execute(path)) + "\n"
        if len(text.encode()) > LIMIT:
            raise KitError(
                f"{path.name} would have {len(text.encode()) // 1000} kB with its outputs, more than "
                f"{LIMIT // 1000}; draw fewer or smaller pictures."
            )
        write_text(path, text)


def execute(path: Path) -> NotebookNode:
    """A notebook with fresh outputs, after its solutions were tried.

    Raises:
        KitError: a cell fails, or a solution is refused.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=START_TIMEOUT,
        kernel_manager_class=SocketKernelManager,
        resources={"metadata": {"path": str(paths.NOTEBOOKS)}},
        record_timing=False,
        store_widget_state=False,
    )
    filled = solved(notebook)
    cells = bar(enumerate(notebook.cells), "cells", len(notebook.cells))
    solutions = bar(sorted(filled), "solutions", len(filled))
    # No bars in the kernel: stored, they would be widgets nobody can open; told, they would hide the cells'.
    environment = {name: value for name, value in os.environ.items() if name != REPORT}
    with client.setup_kernel(env=environment | {"FAP_PROGRESS": "0"}):
        try:
            for index, cell in cells:
                client.execute_cell(cell, index)
        except CellExecutionError as error:
            raise KitError(f"{path.name}, cell {index}: {error}") from error
        for index in solutions:
            _try(client, filled[index], f"{path.name}, cell {index} solved")
    notebook.metadata.language_info = {"name": "python"}  # no versions, which differ between machines
    return notebook


def solved(notebook: NotebookNode) -> dict[int, str]:
    """Code with the folded solutions filled in: each exercise's cell, by its index.

    Where later cells go on with an answer, these are there as well, as they stand.
    """
    found: dict[int, str] = {}
    exercise, on = 0, False
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            if on:
                found[index] = cell.source
            if is_exercise(cell):
                exercise = index
                on = on or "checked(" in cell.source
        elif solution := _SOLUTION.search(cell.source):
            found[exercise] = _filled(notebook.cells[exercise].source, solution[1].rstrip())
    return found


def is_exercise(cell: NotebookNode) -> bool:
    """Whether a cell asks for an answer."""
    return cell.cell_type == "code" and bool(re.search(r"\bcheck(ed)?\(\"", cell.source))


def _filled(source: str, solution: str) -> str:
    """A cell's source with the solution in place of the dots, or of the functions and classes it defines."""
    if DOTS in source:
        return source.replace(DOTS, solution)
    lines = source.splitlines()
    own = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    first, last = own[0].lineno - 1, own[-1].end_lineno
    return "\n".join([*lines[:first], solution, *lines[last:]])


def _try(client: NotebookClient, source: str, what: str) -> None:
    cell = nbformat.v4.new_code_cell(source)
    client.nb.cells.append(cell)
    try:
        client.execute_cell(cell, len(client.nb.cells) - 1, store_history=False)
    except CellExecutionError as error:
        raise KitError(f"{what}: {error}") from error
    finally:
        client.nb.cells.pop()
    said = "".join(output.get("text", "") for output in cell.outputs).splitlines() or ["nothing was printed"]
    if is_exercise(cell) and said[-1] != RIGHT:
        raise KitError(f"{what} is refused by its check: {' '.join(said)}")
