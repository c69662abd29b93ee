"""The explorer in a real browser: JupyterLab runs the notebook, and its controls change the picture."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import toy
from selenium.webdriver.common.keys import Keys

from fap_lib.core import paths
from fap_lib.lessons.lesson import Lesson, open_lesson
from fap_lib.pictures import marks, views
from fap_lib.pictures.views import View
from fap_lib.runs.parameters import LessonRun
from figures import lab

NOTEBOOK = "11_explorer.ipynb"

pytestmark = pytest.mark.skipif(bool(lab.lacking()), reason=f"not installed: {lab.lacking()}")

PATIENCE = 900
"""Seconds for all cells to run; a busy machine is no fault."""


@pytest.fixture
def world(home: Path) -> Lesson:
    """The lesson that the notebook will open, in a small mini world."""
    toy.mini(home / "data" / "mini-test")
    return open_lesson(LessonRun(data="mini-test", prompts="paper"))


@pytest.fixture
def page(world: Lesson, home: Path, tmp_path: Path) -> Iterator[lab.Page]:
    """A copy of the notebook, open in JupyterLab; all its cells have run."""
    assert len(world.cache)  # its features are there, so the notebook only reads them
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(paths.NOTEBOOKS / NOTEBOOK, folder)
    with lab.jupyterlab(folder, home) as address, lab.chromium(1400, 1600) as driver:
        page = lab.Page(driver, address.format(NOTEBOOK))
        page.run_until_drawn(PATIENCE)
        yield page


def said(lesson: Lesson, index: int, view: View) -> list[str]:
    """The words that belong under the picture, from the plain functions."""
    look = views.look_at(lesson, index)
    return views.sentences(look, view, views.pixel_map(look, view) >= view.threshold)


def test_moving_the_controls_changes_the_picture(page: lab.Page, world: Lesson):
    found = [(record.category, record.defect) for record in world.cache.records]
    thread = found.index(("leather", "thread"))

    def expect(index: int, view: View) -> None:
        words = said(world, index, view)
        lab.wait(lambda: page.words() == words, 60, f"the words are {page.words()} and not {words}")

    def expect_mask(index: int, view: View) -> None:
        """The last panel's pixels are those of the mask that belongs to `view`."""
        look = views.look_at(world, index)
        mask = marks.compared(look.pixels, look.truth, views.pixel_map(look, view) >= view.threshold)

        def differ() -> float:
            seen = page.panel(1)
            rows, columns = (np.arange(len(mask)) * side // len(mask) for side in seen.shape[:2])
            return np.abs(seen[rows][:, columns] - mask).mean()

        lab.wait(lambda: differ() < 10, 30, f"the last panel differs by {differ():.0f} grey levels")

    def expect_changed(before: np.ndarray) -> None:
        """At least some hundred pixels of the figure differ."""
        lab.wait(
            lambda: (np.abs(page.pixels() - before).max(2) > 30).sum() > 200, 30, "the picture is the same"
        )

    # After "Run All", too, the last panel is what the words are about.
    expect(thread, View(10))
    expect_mask(thread, View(10))
    assert len(page.alternatives()) >= 2
    assert all(len(words) > 20 for words in page.alternatives())
    first, lines = page.pixels(), page.drawn()

    for width in (800, 1400):
        page.driver.set_window_size(width, 1600)
        lab.wait(lambda: page.cut() < 1, 30, f"a part is cut at a width of {width}")

    begin = time.perf_counter()
    page.press("threshold")
    expect(thread, View(10, threshold=0.51))
    print(f"from the key to the words: {1000 * (time.perf_counter() - begin):.0f} ms")
    page.press("threshold", Keys.ARROW_LEFT, 21)
    expect(thread, View(10, threshold=0.3))
    expect_changed(first)
    lab.wait(lambda: page.drawn()["lines"] != lines["lines"], 30, "the outline is the same")
    expect_mask(thread, View(10, threshold=0.3))
    assert page.unset() == []
    assert page.drawn()["images"][0] == lines["images"][0]  # the image itself is not sent again
    assert page.drawn()["images"][-1] != lines["images"][-1]

    before = page.pixels()
    page.press("M", times=15)
    expect(thread, View(25, threshold=0.3))
    expect_changed(before)

    before = page.pixels()
    page.select("prompt", "prompt 2")
    page.select("map", "static")
    expect(thread, View(25, 2, "static", 0.3))
    expect_changed(before)

    before = page.pixels()
    page.select("category", "pill")
    page.select("defect", "good")
    page.press("image")
    expect(found.index(("pill", "good")) + 1, View(25, 2, "static", 0.3))
    expect_changed(before)
    assert page.drawn()["images"][0] != lines["images"][0]
    assert not [error for error in page.errors() if "Failed to initialize model" not in error]
