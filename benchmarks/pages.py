"""Tables inside Markdown pages: `python -m benchmarks.pages` brings all of them up to date.

A page takes a table where it has the lines `<!-- NAME -->` and `<!-- end -->`; what stands between them is
replaced. Names are `PROFILE TABLE`, for what `make bench` measures (`benchmarks.report`), `study`, for the
study of the mini world (`benchmarks.study_tables`), and those of `benchmarks.detector_tables`.
"""

import re
from pathlib import Path

from benchmarks import detector_tables, report, study_tables
from fap_lib.core import paths
from fap_lib.core.errors import KitError, nearest
from fap_lib.core.files import write_text
from fap_lib.lessons.study import load_study

_MARKED = re.compile(r"<!-- (?P<name>[\w ]+) -->\n(?:(?!<!--).)*<!-- end -->", re.DOTALL)


def pages() -> list[Path]:
    """The repository's pages that have marks."""
    root = paths.REPOSITORY
    found = [root / "README.md", root / "benchmarks" / "README.md", *sorted((root / "docs").glob("*.md"))]
    return [page for page in found if _MARKED.search(page.read_text(encoding="utf-8"))]


def tables() -> dict[str, str]:
    """All tables that a page may have, by name, of the committed results."""
    study = {"study": study_tables.excerpt(load_study())}
    return report.tables(report.measured()) | study | detector_tables.tables()


def filled(page: str, known: dict[str, str]) -> str:
    """`page` with tables at its marks.

    Raises:
        KitError: a mark names no table.
    """

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in known:
            near = nearest(name, known)
            raise KitError(f"a page wants the table {name!r}; the nearest known one is {near!r}.")
        return f"<!-- {name} -->\n{known[name]}\n<!-- end -->"

    return _MARKED.sub(replace, page)


def write_pages() -> None:
    """Write the documents beside the results, and the tables inside the pages."""
    report.write_documents()
    study_tables.write_document()
    known = tables()
    for page in pages():
        write_text(page, filled(page.read_text(encoding="utf-8"), known))


if __name__ == "__main__":
    write_pages()
