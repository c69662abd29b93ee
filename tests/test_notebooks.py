"""The notebooks as files: complete, small, readable, and showing the library's own code."""

import ast
import builtins
import importlib
import io
import json
import re
import subprocess
import symtable
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat import NotebookNode

from fap_lib.core import paths, progress
from fap_lib.core.errors import KitError
from fap_lib.core.inline import image_tag
from fap_lib.lessons import outputs
from fap_lib.lessons.outputs import DOTS, LIMIT, execute, is_exercise, notebooks, solved
from fap_lib.runs.notebook import EVALUATE, FEATURES, LESSON, TRAIN, code_cells

EACH = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)

SHOWN = {
    "fap_lib.cap": {"__init__", "prefix", "abnormal_suffix", "ended", "prototype", "orthogonality_loss"},
    "fap_lib.clip.text_tower": {"suffix"},
    "fap_lib.dap": {"PriorNetwork", "select_patches", "prior_loss"},
    "fap_lib.losses": {"focal_loss", "dice_loss", "map_loss", "image_cross_entropy", "image_focal_loss"},
    "fap_lib.training": {"losses"},
    "fap_lib.model": {"class_logits", "forward", "score"},
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
    asked = [cell for cell in read(path).cells if is_exercise(cell)]
    assert len(titles) == text.count("<details>") == len(asked)
    filled = solved(read(path))
    assert all(
        cell.source != filled[index] for index, cell in enumerate(read(path).cells) if is_exercise(cell)
    )


@EACH
def test_its_cells_are_short_and_no_picture_comes_from_elsewhere(path: Path):
    notebook = read(path)
    lines = [
        len(cell.source.splitlines())
        for cell in code(notebook)
        if not (is_exercise(cell) or any(tag.startswith("code-of:") for tag in cell.metadata.get("tags", [])))
    ]
    assert max(lines) <= 24
    assert "](http" not in text_of_images(notebook)


def text_of_images(notebook: NotebookNode) -> str:
    """Markdown pictures, which must not be fetched from anywhere."""
    return "".join(re.findall(r"!\[.*?\]\(.*?\)", prose(notebook)))


def names(source: str) -> tuple[set[str], set[str]]:
    """Names that a cell takes from cells before it, and names that it leaves to cells after it."""
    wanted, given = set(), set()

    def walk(table: symtable.SymbolTable) -> None:
        for name in table.get_symbols():
            if table.get_type() == "module" and (name.is_assigned() or name.is_imported()):
                given.add(name.get_name())
            elif name.is_global() or table.get_type() == "module":
                wanted.add(name.get_name())
        for child in table.get_children():
            walk(child)

    walk(symtable.symtable(source, "cell", "exec"))
    methods_own = {"__class__"}  # what `super` takes in a method that is shown by itself
    return wanted - given - set(dir(builtins)) - methods_own, given


@EACH
def test_jobs_find_all_they_need_without_the_lessons(path: Path):
    known: set[str] = set()
    for source in code_cells(path):
        wanted, given = names(source)
        assert wanted <= known, f"a cell that jobs run takes {wanted - known} from lessons:\n{source}"
        known |= given


@pytest.mark.parametrize("name", [FEATURES, TRAIN, EVALUATE])
def test_exercises_and_code_to_read_are_lessons(name: str):
    for cell in code(read(paths.NOTEBOOKS / f"{name}.ipynb")):
        tags = cell.metadata.get("tags", [])
        if DOTS in cell.source or any(tag.startswith("code-of:") for tag in tags):
            assert LESSON in tags, cell.source


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


PICTURE = (
    "from fap_lib.core.inline import image_tag\nfrom IPython.display import HTML, display\n"
    "display(HTML(image_tag(b'same', 'a curve')))"
)


def picture(words: str, content: bytes) -> NotebookNode:
    """The output of `PICTURE`, perhaps with other bytes or other words."""
    data = {"text/html": image_tag(content, words), "text/plain": "<IPython.core.display.HTML object>"}
    return nbformat.v4.new_output("display_data", data=data)


def test_a_tampered_output_fails_and_other_bytes_of_a_picture_pass(tmp_path: Path):
    notebook = nbformat.v4.new_notebook()
    stored = (
        ("print(6 * 7)", nbformat.v4.new_output("stream", name="stdout", text="42\n"), "PASSED"),
        ("print(6 * 7)", nbformat.v4.new_output("stream", name="stdout", text="43\n"), "FAILED"),
        (PICTURE, picture("a curve", b"other"), "PASSED"),
        (PICTURE, picture("a line", b"same"), "FAILED"),
    )
    for count, (source, output, _) in enumerate(stored, start=1):
        notebook.cells.append(nbformat.v4.new_code_cell(source, execution_count=count, outputs=[output]))
    nbformat.write(notebook, tmp_path / "small.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
    command += ["--nbval-sanitize-with", str(Path(__file__).with_name("nbval.cfg")), "-rA", "small.ipynb"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    verdicts = {int(cell): word for word, cell in re.findall(r"^(\w+) \S+::Cell (\d)", said, re.MULTILINE)}
    assert verdicts == {place: verdict for place, (*_, verdict) in enumerate(stored)}, said


def exercise(tmp_path: Path, solution: str) -> Path:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell(
            'from fap_lib.lessons.exercises import check\nanswer = ...\ncheck("02.2", answer)'
        ),
        nbformat.v4.new_markdown_cell(
            f"<details><summary>Solution</summary>\n\n```python\n{solution}\n```\n</details>"
        ),
        nbformat.v4.new_code_cell(
            f'import os\nprint(os.environ["FAP_PROGRESS"], os.environ.get("{progress.REPORT}"))'
        ),
    ]
    nbformat.write(notebook, tmp_path / "exercise.ipynb")
    return tmp_path / "exercise.ipynb"


def test_a_wrong_solution_stops_the_storing_of_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    report = tmp_path / "progress"
    monkeypatch.setenv(progress.REPORT, str(report))
    stored = execute(exercise(tmp_path, "answer = 3 * 0.5"))
    assert "No answer yet" in stored.cells[0].outputs[0].text
    assert stored.cells[2].outputs[0].text == "0 None\n"  # bars of cells neither show nor report themselves
    assert json.loads(report.read_text()) == [1, 1, 0.0]  # one solution, after the cells
    with pytest.raises(KitError, match=r"cell 0 solved is refused by its check: Not yet\. Its kind is right"):
        execute(exercise(tmp_path, "answer = 5"))


def test_storing_outputs_tells_a_terminal_which_notebook_is_run(monkeypatch: pytest.MonkeyPatch):
    said = io.StringIO()
    said.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", said)
    monkeypatch.setattr(outputs, "execute", lambda _: nbformat.v4.new_notebook())
    monkeypatch.setattr(outputs, "write_text", lambda *_: None)
    outputs.store(["03_abnormality_prior", "02_compound_prompts"])
    assert "[1/2] 02_compound_prompts  0:00\n" in said.getvalue()
    assert said.getvalue().endswith("[2/2] 03_abnormality_prior  0:00\n")


def test_where_a_lesson_goes_on_with_an_answer_all_that_follows_is_run_again():
    notebook = nbformat.v4.new_notebook()
    stub = 'limit = 2\n\n\ndef twice(x):\n    ...\n\n\ntwice = checked("13.1", twice, instead=max)'
    folded = (
        "<details><summary>Solution</summary>\n\n```python\ndef twice(x):\n    return 2 * x\n```\n</details>"
    )
    notebook.cells = [
        nbformat.v4.new_code_cell("first = 1"),
        nbformat.v4.new_code_cell(stub),
        nbformat.v4.new_markdown_cell(folded),
        nbformat.v4.new_code_cell("print(twice(limit))"),
    ]
    filled = stub.replace("    ...", "    return 2 * x")
    assert solved(notebook) == {1: filled, 3: "print(twice(limit))"}


def test_notebooks_have_one_number_each():
    numbers = [int(path.stem.split("_")[0]) for path in notebooks()]
    assert numbers == sorted(set(numbers))
    assert all(path.parent == paths.NOTEBOOKS for path in notebooks())


@EACH
def test_no_paragraph_stands_twice(path: Path):
    paragraphs = [part for part in prose(read(path)).split("\n\n") if len(part) > 60 and "```" not in part]
    assert sorted(set(paragraphs)) == sorted(paragraphs)


@EACH
def test_names_and_words_are_plain(path: Path):
    notebook = read(path)
    names = {
        node.id
        for cell in code(notebook)
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Name)
    }
    assert not names & {"sick", "crowd", "lot", "theirs"}
    assert not re.search(
        r"\bheadless|fget", prose(notebook) + "".join(cell.source for cell in code(notebook))
    )


@EACH
def test_it_has_a_claim_a_signature_result_and_a_control(path: Path):
    cells = read(path).cells
    assert len(re.findall(r"^\*\*(?:Question|Claim)\.\*\* \S", cells[0].source, re.MULTILINE)) == 2
    for title in ("## Signature result: ", "## A control that must fail: ", "## Remember\n"):
        (place,) = (i for i, cell in enumerate(cells) if f"\n{title}" in f"\n{cell.source}")
        assert cells[place].cell_type == "markdown"
        if title != "## Remember\n":  # a result is computed, and just below
            assert cells[place + 1].cell_type == "code"
            assert any(cell.get("outputs") for cell in cells[place + 1 : place + 5])
            assert place > len(cells) / 4


def test_cable_is_near_chance_wherever_it_is_printed_and_the_lessons_say_why_figures_differ():
    for name, others in (
        ("00_start_here", "Notebooks 5 and 6"),
        ("05_evaluate_dataset", "Notebooks 0 and 6"),
        ("06_compare_results", ""),
    ):
        notebook = read(paths.NOTEBOOKS / f"{name}.ipynb")
        outputs = [output for cell in code(notebook) for output in cell.outputs]
        said = "\n".join(output.get("text") or output.data.get("text/plain", "") for output in outputs)
        auroc = float(re.search(r"cable +(\d+\.\d+)", said)[1])
        assert 40 < (auroc if auroc > 1 else 100 * auroc) < 60
        assert others in prose(notebook)
