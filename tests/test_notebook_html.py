"""Notebooks as HTML pages: every stored picture is shown, and says in words what is to be seen."""

from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter

from fap_lib.lessons.outputs import notebooks


class Pictures(HTMLParser):
    """The attributes of each `<img>`, in order."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs))


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_its_page_shows_all_pictures_with_their_words(path: Path):
    notebook = nbformat.read(path, as_version=4)
    outputs = [
        output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output
    ]
    # Readers drop the words of a plain picture; what needs an extension would be a blank place.
    kinds = {kind for data in outputs for kind in data}
    assert kinds <= {"text/html", "text/markdown", "text/plain"}
    stored = [picture for data in outputs for picture in Pictures(data.get("text/html", "")).found]
    assert all(str(picture["src"]).startswith("data:image/png;base64,") for picture in stored)
    assert all(len(picture["alt"] or "") > 20 for picture in stored)
    for template in ("lab", "classic"):
        page, _ = HTMLExporter(template_name=template).from_notebook_node(notebook)
        assert Pictures(page).found == stored
