"""The explorer: one image, its maps under any prompt, the patches the prior sees, and a threshold.

Plain functions compute everything (`views`, `marks`); `Explorer` draws their outcome again at every move of a
control, `snapshot.picture` once. What no slider changes is computed once an image, in `look_at`.
"""

from html import escape
from typing import Any

import ipywidgets
import numpy as np
import torch
from IPython.display import Javascript, display

from fap_lib.core.progress import watched
from fap_lib.lessons.lesson import Lesson
from fap_lib.pictures import marks
from fap_lib.pictures.explorer_figure import ON_MAP, empty, hover
from fap_lib.pictures.marks import data_uri, svg_path
from fap_lib.pictures.views import (
    KINDS,
    View,
    look_at,
    patch_grid,
    pixel_map,
    prompt_name,
    sentences,
    title,
)

FIT_WIDTH = """
setInterval(() => {
    for (const plot of document.querySelectorAll('.fap-explorer .js-plotly-plot')) {
        const [place, drawn] = [plot, plot.querySelector('.main-svg')].map(
            one => one?.getBoundingClientRect().width);
        if (place && drawn && Math.abs(place - drawn) > 1) window.dispatchEvent(new Event('resize'));
    }
}, 500);
"""
"""plotly fits a figure to its place when the window changes, but neither at first nor with the cell."""


class Explorer:
    """The view with controls: it holds the widgets, and calls plain functions.

    Args:
        lesson: dataset, features and prompts. start: the image shown first.
    """

    def __init__(self, lesson: Lesson, start: int = 0):
        self.lesson = lesson
        with torch.inference_mode():
            self._static = lesson.model.static_text()
        self._images: dict[str, dict[str, list[int]]] = {}
        for index, record in enumerate(lesson.cache.records):
            self._images.setdefault(record.category, {}).setdefault(record.defect, []).append(index)
        self.look = look_at(lesson, start, self._static)
        self._map = np.zeros((self.look.size, self.look.size))

        wide = ipywidgets.Layout(width="22em")
        self.category = ipywidgets.Dropdown(options=list(self._images), description="category", layout=wide)
        self.defect = ipywidgets.Dropdown(description="defect", layout=wide)
        self.number = ipywidgets.IntSlider(1, min=1, max=1, description="image", layout=wide)
        names = [(prompt_name(number), number) for number in range(self.look.n_prompts + 1)]
        self.prompt = ipywidgets.Dropdown(options=names, description="prompt", layout=wide)
        self.kind = ipywidgets.Dropdown(options=KINDS, value="mean", description="map", layout=wide)
        trained = lesson.model.settings.n_patches
        most = min(self.look.values.shape[-1], 4 * trained)
        self.count = ipywidgets.IntSlider(trained, min=1, max=most, description="M", layout=wide)
        self.threshold = ipywidgets.FloatSlider(
            0.5, min=0, max=1, step=0.01, description="threshold", layout=wide
        )
        self.words = ipywidgets.HTML()
        self.figure = empty(self.look)
        self._traces = {trace.meta: trace for trace in self.figure.data}
        self._pictures = {picture.name: picture for picture in self.figure.layout.images}
        self._shapes = {shape.name: shape for shape in self.figure.layout.shapes}
        controls = [
            [self.category, self.defect, self.number],
            [self.prompt, self.kind],
            [self.count, self.threshold],
        ]
        columns = ipywidgets.HBox([ipywidgets.VBox(part) for part in controls])
        columns.layout.flex_flow = "row wrap"
        self.widget = ipywidgets.VBox([columns, self.figure, self.words])
        self.widget.add_class("fap-explorer")

        self._busy = False
        self.choose(start)
        for control, moved in (
            (self.category, self._category_moved),
            (self.defect, self._defect_moved),
            (self.number, self._number_moved),
            (self.prompt, self._map_moved),
            (self.kind, self._map_moved),
            (self.count, self._count_moved),
            (self.threshold, self._threshold_moved),
        ):
            control.observe(moved, "value")

    @property
    def view(self) -> View:
        """What the controls say."""
        return View(self.count.value, self.prompt.value, self.kind.value, self.threshold.value)

    def show(self) -> None:
        """Display the controls to a person; a headless run says in words that they are not shown."""
        if watched():
            display(self.widget, Javascript(FIT_WIDTH))
        else:
            print("The controls are shown where a person runs this notebook, such as in JupyterLab.")

    def choose(self, index: int) -> None:
        """Show image `index` of the dataset."""
        record = self.lesson.cache.records[index]
        defects = self._images[record.category]
        self._busy = True  # the controls change one another; the picture changes once, at the end
        self.category.value = record.category
        self.defect.options = list(defects)
        self.defect.value = record.defect
        self.number.max = len(defects[record.defect])
        self.number.value = 1 + defects[record.defect].index(index)
        self._busy = False
        self._show_image(index)

    def _category_moved(self, _: Any) -> None:
        if not self._busy:
            defects = self._images[self.category.value]
            self.choose(defects.get(self.defect.value, next(iter(defects.values())))[0])

    def _defect_moved(self, _: Any) -> None:
        if not self._busy:
            self.choose(self._images[self.category.value][self.defect.value][0])

    def _number_moved(self, _: Any) -> None:
        if not self._busy:
            self._show_image(self._images[self.category.value][self.defect.value][self.number.value - 1])

    def _show_image(self, index: int) -> None:
        look = self.look = look_at(self.lesson, index, self._static)
        with self.figure.batch_update():
            self._pictures["image"].source = data_uri(look.pixels)
            self._traces["heat"].customdata = hover(look)
            for part in ("", ON_MAP):
                dots = self._traces["dots" + part]
                dots.x, dots.y = marks.centres(look.read, look.grid, look.size)
            self._traces["parts"].x = [*look.parts.values(), look.score]
            self._count_moved()
            self._map_moved()

    def _map_moved(self, _: Any = None) -> None:
        self._map = pixel_map(self.look, self.view)
        with self.figure.batch_update():
            self._traces["heat"].z = patch_grid(self.look, self.view)
            self.figure.layout.annotations[1].text = title(self.view)
            self._threshold_moved()

    def _count_moved(self, _: Any = None) -> None:
        look = self.look
        path = svg_path(*marks.squares(look.ranking[: self.count.value], look.grid, look.size))
        with self.figure.batch_update():
            for part in ("", ON_MAP):
                self._shapes["squares" + part].path = path
        self._say()

    def _threshold_moved(self, _: Any = None) -> None:
        mask = self._map >= self.threshold.value
        path = svg_path(*marks.outline(mask))
        with self.figure.batch_update():
            for part in ("", ON_MAP):
                self._shapes["outline" + part].path = path
            self._pictures["compared"].source = data_uri(
                marks.compared(self.look.pixels, self.look.truth, mask)
            )
            self._shapes["threshold"].update(x0=self.threshold.value, x1=self.threshold.value)
        self._say()

    def _say(self) -> None:
        said = sentences(self.look, self.view, self._map >= self.threshold.value)
        self.words.value = "<br>".join(escape(sentence) for sentence in said)
