"""Notebooks as HTML pages: every stored picture is shown, and says in words what is to be seen."""

import html
import re
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from fap_lib.lessons.outputs import notebooks


def pictures(notebook: NotebookNode, template: str) -> list[tuple[str, str]]:
    """Source and alternative text of each picture on a notebook's page, in order."""
    page, _ = HTMLExporter(template_name=template).from_notebook_node(notebook)
    found = []
    for tag in re.findall(r"<img\b[^>]*>", page):
        source, alternative = (re.search(rf'\b{name}="([^"]*)"', tag) for name in ("src", "alt"))
        assert source
        assert alternative
        found.append((source[1], html.unescape(alternative[1])))
    return found


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_its_page_shows_all_pictures(path: Path):
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    stored = [output for output in outputs if "image/png" in output.get("data", {})]
    # nbconvert's default page gives each picture the same words; its classic one gives it its own.
    for template in ("lab", "classic"):
        shown = pictures(notebook, template)
        assert len(shown) == len(stored)
        assert all(source.startswith("data:image/png;base64,") for source, _ in shown)
        assert all(alternative for _, alternative in shown)
    assert [text for _, text in shown] == [output.metadata["image/png"]["alt"] for output in stored]
    # What only a browser with the right extension can draw would be a blank place here.
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert not [kind for kind in kinds if "plotly" in kind or "widget" in kind]
