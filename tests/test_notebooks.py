"""The notebooks as files: complete, small, readable, and showing the library's own code."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat import NotebookNode

from fap_lib.core import paths
from fap_lib.core.errors import KitError
from fap_lib.core.inline import image_tag
from fap_lib.lessons.outputs import DOTS, LIMIT, execute, notebooks, solutions

EACH = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)

SHOWN = {
    "fap_lib.cap": {"CompoundPrompts", "prototype", "orthogonality_loss"},
    "fap_lib.dap": {"PriorNetwork", "select_patches", "prior_loss"},
    "fap_lib.losses": {"focal_loss", "dice_loss", "map_loss", "image_cross_entropy", "image_focal_loss"},
    "fap_lib.training": {"losses"},
    "fap_lib.model": {"class_logits", "score"},
}
"""What the notebooks must show of the library, in cells tagged `code-of:MODULE`."""


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


@EACH
def test_it_is_valid_small_and_ran_from_top_to_bottom(path: Path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert path.stat().st_size <= LIMIT
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    # nbval compares nothing where nothing is stored.
    checked = [
        cell
        for cell in code(notebook)
        if cell.outputs and "nbval-ignore-output" not in cell.metadata.get("tags", [])
    ]
    assert len(checked) >= 3
    kinds = {output.output_type for cell in code(notebook) for output in cell.outputs}
    assert kinds <= {"stream", "execute_result", "display_data"}
    assert "widgets" not in notebook.metadata
    assert "execution" not in {key for cell in notebook.cells for key in cell.metadata}


@EACH
def test_its_parameters_come_first_and_are_checked_next(path: Path):
    first, second = code(read(path))[:2]
    assert "parameters" in first.metadata.tags
    for statement in ast.parse(first.source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
    assert ".from_notebook(globals())" in second.source
    names = [target.id for statement in ast.parse(first.source).body for target in statement.targets]
    assert list(papermill.inspect_notebook(str(path))) == names, "papermill cannot read a line of the cell"


@EACH
def test_it_teaches(path: Path):
    text = prose(read(path))
    for part in ("**Question.**", "Paper:", "Before:", "Time:", "## Learning goals", "## Remember"):
        assert part in text, part
    titles = re.findall(r"^#+ Exercise \d+ · (?:easy|medium|hard) · \d+ minutes", text, re.MULTILINE)
    assert len(titles) >= 2
    dots = [cell for cell in code(read(path)) if cell.source.count(DOTS) == 1]
    assert len(solutions(read(path))) == len(titles) == text.count("<details>") == len(dots)


@EACH
def test_its_cells_are_short_and_no_picture_comes_from_elsewhere(path: Path):
    notebook = read(path)
    lines = [
        len(cell.source.splitlines())
        for cell in code(notebook)
        if not any(tag.startswith("code-of:") for tag in cell.metadata.get("tags", []))
    ]
    assert max(lines) <= 24
    assert "](http" not in text_of_images(notebook)


def text_of_images(notebook: NotebookNode) -> str:
    """Markdown pictures, which must not be fetched from anywhere."""
    return "".join(re.findall(r"!\[.*?\]\(.*?\)", prose(notebook)))


def definitions(source: str) -> dict[str, str]:
    """Functions and classes of a source, also those in classes, without docstrings: name to code."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner):
                    inner.body = inner.body[1:] or [ast.Pass()]
            found[node.name] = ast.unparse(node)
    return found


def test_code_shown_is_code_imported():
    shown: dict[str, set[str]] = {}
    for path in notebooks():
        for cell in code(read(path)):
            for tag in cell.metadata.get("tags", []):
                if tag.startswith("code-of:"):
                    module = tag.removeprefix("code-of:")
                    library = definitions(Path(importlib.import_module(module).__file__).read_text())
                    own = definitions(cell.source)
                    assert own, f"{path.stem}: a cell tagged {tag} defines nothing"
                    for name, source in own.items():
                        assert source == library[name], f"{path.stem} shows another {module}.{name}"
                    shown.setdefault(module, set()).update(own)
    for module, names in SHOWN.items():
        assert names <= shown[module], f"{module}: not shown"


def nbval(path: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
    command += ["--nbval-sanitize-with", str(Path(__file__).with_name("nbval.cfg")), str(path)]
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True)


def small(tmp_path: Path, source: str, *outputs: NotebookNode) -> Path:
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell(source, execution_count=1)
    cell.outputs = list(outputs)
    notebook.cells = [cell]
    nbformat.write(notebook, tmp_path / "small.ipynb")
    return tmp_path / "small.ipynb"


@pytest.mark.parametrize(("printed", "code"), [("42\n", 0), ("43\n", 1)])
def test_a_tampered_output_fails(tmp_path: Path, printed: str, code: int):
    output = nbformat.v4.new_output("stream", name="stdout", text=printed)
    ran = nbval(small(tmp_path, "print(6 * 7)", output))
    assert ran.returncode == code, ran.stdout


@pytest.mark.parametrize(("stored", "code"), [(("a curve", b"other"), 0), (("a line", b"same"), 1)])
def test_other_bytes_of_a_picture_pass_and_other_words_fail(tmp_path: Path, stored: tuple, code: int):
    source = "from fap_lib.core.inline import image_tag\nfrom IPython.display import HTML, display\n"
    source += "display(HTML(image_tag(b'same', 'a curve')))"
    words, content = stored
    data = {"text/html": image_tag(content, words), "text/plain": "<IPython.core.display.HTML object>"}
    ran = nbval(small(tmp_path, source, nbformat.v4.new_output("display_data", data=data)))
    assert ran.returncode == code, ran.stdout


def exercise(tmp_path: Path, solution: str) -> Path:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell(
            'from fap_lib.lessons.exercises import check\nanswer = ...\ncheck("02.2", answer)'
        ),
        nbformat.v4.new_markdown_cell(
            f"<details><summary>Solution</summary>\n\n```python\n{solution}\n```\n</details>"
        ),
    ]
    nbformat.write(notebook, tmp_path / "exercise.ipynb")
    return tmp_path / "exercise.ipynb"


def test_a_wrong_solution_stops_the_storing_of_outputs(tmp_path: Path):
    stored = execute(exercise(tmp_path, "answer = 3 * 0.5"))
    assert "No answer yet" in stored.cells[0].outputs[0].text
    with pytest.raises(KitError, match=r"solution 1 is refused by its check: Not yet\. Its kind is right"):
        execute(exercise(tmp_path, "answer = 5"))


def test_notebooks_have_one_number_each():
    numbers = [int(path.stem.split("_")[0]) for path in notebooks()]
    assert numbers == list(range(len(numbers)))
    assert all(path.parent == paths.NOTEBOOKS for path in notebooks())
