"""The site (`make docs`): built into build/site/ from the pages here and the notebooks as stored."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import tables  # noqa: E402

from fap_lib import __version__  # noqa: E402

project = "The FAPrompt kit"
author = "the kit's contributors"
copyright = f"{author}; MIT licence"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "notebooks/*.ipynb", *tables.PAGES]
exclude_patterns = ["build/**", "data/**", "runs/**", "cache/**"]
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "colon_fence", "html_image"]
myst_heading_anchors = 3
suppress_warnings = [
    "mystnb.unknown_mime_type",  # plotly's and the widgets' own; the notebook stores a picture beside them
    "myst.header",  # a model card may begin its parts at any level
]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True

html_theme = "sphinx_book_theme"
html_title = "FAPrompt kit"
html_extra_path = ["extra"]
html_theme_options = {
    "repository_url": tables.REPOSITORY,
    "repository_branch": "main",
    "path_to_docs": "",
    "use_repository_button": True,
    "use_download_button": True,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "show_toc_level": 2,
    "navbar_persistent": [],  # the search field stands in the side bar
}
html_sourcelink_suffix = ""


def setup(_: object) -> None:
    """Write the generated pages before Sphinx reads the sources."""
    tables.write(ROOT / "docs" / "generated")
