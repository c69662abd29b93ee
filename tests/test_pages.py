"""The front page and the pages behind it: short enough, whole, and every link leads somewhere."""

import re
from pathlib import Path

import pytest
import yaml

import fap_lib
from fap_lib.core import paths
from fap_lib.lessons.outputs import notebooks

ROOT = paths.REPOSITORY
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


def links(page: Path) -> list[str]:
    """Targets of a page's links and pictures that lie in the repository; code is no prose."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link.split("#")[0] for link in found if not re.match(r"[a-z]+:|#", link)]


def test_the_front_page_is_short():
    text = re.sub(r"\]\([^)]*\)", "]", README.read_text(encoding="utf-8"))
    assert len(re.findall(r"\w[\w'.-]*", text)) <= 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    # What lies in `generated/` is made when the site is built.
    missing = [link for link in links(page) if "generated/" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_the_front_page_leads_to_every_notebook_and_every_page():
    own = set(links(README))
    assert {f"notebooks/{path.name}" for path in notebooks()} <= own
    reached = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    assert {page.resolve() for page in PAGES} - {README, ROOT / "docs" / "index.md"} <= reached


def test_the_site_lists_every_page():
    """Sphinx refuses a page that no table of contents names; this says it sooner."""
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    named = {
        line.strip() for part in re.findall(r"```{toctree}(.*?)```", text, re.DOTALL) for line in part.split()
    }
    assert {page.stem for page in PAGES} - {"README", "index"} <= named


def test_the_citation_agrees_with_the_front_page_and_the_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == fap_lib.__version__
    paper = cited["preferred-citation"]
    text = README.read_text(encoding="utf-8")
    assert paper["title"] in text
    assert paper["url"] in text
    names = " and ".join(f"{name['family-names']}, {name['given-names']}" for name in paper["authors"])
    assert names in text
