"""Progress bars for people; silence for machines."""

import os
import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def bar(items: Iterable[Item], title: str, total: int | None = None, start: int = 0) -> Iterable[Item]:
    """`items` with a progress bar, in a terminal or a notebook a person looks at.

    Headless runs set `FAP_PROGRESS=0`: a notebook bar would store a widget nobody can open.
    """
    from tqdm.auto import tqdm  # slow to import, and seldom seen

    seen = os.environ.get("FAP_PROGRESS") != "0" and (in_notebook() or sys.stderr.isatty())
    return tqdm(items, desc=title, total=total, initial=start, disable=not seen)


def in_notebook() -> bool:
    """Whether this is a notebook's kernel."""
    return "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None


def watched() -> bool:
    """Whether a person looks at this notebook while it runs."""
    return in_notebook() and os.environ.get("FAP_PROGRESS") != "0"
