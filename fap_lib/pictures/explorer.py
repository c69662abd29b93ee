"""The explorer: one image, its maps under any prompt, the patches the prior sees, and a threshold.

Plain functions compute everything; `picture` draws their outcome once, `Explorer` draws it again at every
move of a control. What no slider changes is computed once an image, in `look_at`.

Letters: N patches on a g x g grid, K prompts, H = W the size of the scored image in pixels.
"""

import io
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, get_args

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
import torch
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image
from plotly.subplots import make_subplots

from fap_lib.core.inline import png_address
from fap_lib.core.progress import watched
from fap_lib.data.images import load_image
from fap_lib.data.manifest import Record
from fap_lib.lessons.lesson import Lesson
from fap_lib.maps import pixel_maps
from fap_lib.model import StaticText
from fap_lib.pictures.style import COLOURS, PALETTE

Kind = Literal["static", "adapted", "mean"]
"""Which probabilities are shown: under the static prompts, under the adapted ones, or the mean of both."""

KINDS: tuple[Kind, ...] = get_args(Kind)

FOUND, MISSED, FALSE, LINE, SQUARE = PALETTE[2], PALETTE[1], PALETTE[3], PALETTE[5], PALETTE[4]
"""Colours of anomalous pixels inside the mask, outside it, of normal ones inside; of outlines and patches."""


LEGEND = {"squares": "M most abnormal", "dots": "read by the prior", "outline": "mask"}
"""What is drawn over the image and over the patches."""


@dataclass(frozen=True)
class View:
    """What the controls say.

    prompt: 0 for all (their prototype), else one of 1 to K. count: how many patches are marked.
    threshold: of the map's pixels and of the image score, both in [0, 1].
    """

    count: int
    prompt: int = 0
    kind: Kind = "mean"
    threshold: float = 0.5


@dataclass(frozen=True)
class Look:
    """One image and all about it that no slider changes.

    pixels: (H, W, 3) uint8. truth: (H, W) bool, or None where no mask exists.
    values: (3, 1 + K, N) abnormal patch probabilities in the order of `KINDS`; prompt 0 is the prototype.
    ranking: (N,) patches from the most to the least abnormal in the static map, as DAP ranks them.
    read: the patches that the prior network read. parts: what the score is made of, each in [0, 1].
    """

    record: Record
    pixels: np.ndarray
    truth: np.ndarray | None
    values: np.ndarray
    ranking: np.ndarray
    read: np.ndarray
    reading: str
    score: float
    parts: dict[str, float]
    sigma: float

    @property
    def size(self) -> int:
        """H, in pixels."""
        return len(self.pixels)

    @property
    def grid(self) -> int:
        """g, patches a side."""
        return round(self.values.shape[-1] ** 0.5)

    @property
    def n_prompts(self) -> int:
        """K."""
        return self.values.shape[1] - 1


def look_at(lesson: Lesson, index: int, static: StaticText | None = None) -> Look:
    """Compute what the explorer shows of image `index` of a lesson's dataset.

    Args:
        static: the model's `static_text()`, to share it between images.
    """
    cache, model = lesson.cache, lesson.model
    record = cache.records[index]
    with torch.inference_mode():
        static = static or model.static_text()
        image, patches = cache.features(np.array([index]), lesson.device)
        prediction = model(image, patches, static)
        both = []
        for whole, prior in ((prediction.static, None), (prediction.adapted, prediction.prior)):
            both.append(torch.cat([whole[..., 1][:, None], model.prompt_maps(patches, static, prior)], dim=1))
        values = torch.cat([*both, (both[0] + both[1]) / 2]).float().cpu().numpy()
        ranking = prediction.static[0, :, 1].sort(descending=True, stable=True).indices.cpu().numpy()
    known = record.label == 0 or record.mask is not None
    return Look(
        record=record,
        pixels=load_image(cache.root / record.image, cache.image_size),
        truth=cache.masks(np.array([index]))[0].numpy() if known else None,
        values=values,
        ranking=ranking,
        read=np.empty(0, int) if prediction.chosen is None else prediction.chosen[0].cpu().numpy(),
        reading=_reading(model.settings),
        score=float(prediction.score),
        parts={
            "global feature": float(prediction.image_probability),
            "static map, largest": float(prediction.static[..., 1].max()),
            "adapted map, largest": float(prediction.adapted[..., 1].max()),
        },
        sigma=lesson.profile.scoring.sigma,
    )


def _reading(settings: Any) -> str:
    """What the prior network reads, whatever the slider says."""
    if not settings.prior:
        return "these prompts have no prior: adapted maps are the static ones"
    which = {
        "most_abnormal": f"the {settings.n_patches} most abnormal patches",
        "first": f"the first {settings.n_patches} patches of the image, not the most abnormal ones",
        "random": f"{settings.n_patches} random patches",
        "global": "the image's global feature and no patch",
    }[settings.patch_selection]
    return f"the prior network was trained to read {which}, and reads them here"


def patch_grid(look: Look, view: View) -> np.ndarray:
    """(g, g) abnormal probabilities of the patches."""
    return look.values[KINDS.index(view.kind), view.prompt].reshape(look.grid, look.grid)


def pixel_map(look: Look, view: View) -> np.ndarray:
    """(H, W) the same, resized and smoothed: the anomaly map, if it is the mean under all prompts."""
    values = torch.from_numpy(patch_grid(look, view)).flatten()
    return pixel_maps(values, look.size, look.sigma).numpy()


def outline(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edges of a (H, W) bool mask as closed lines, x and y in pixels; NaN ends each.

    Lines run between pixels; the centre of the upper left pixel is (0, 0).
    """
    around = np.pad(mask, 1)
    upright = zip(*_runs((around[:, 1:] != around[:, :-1])[1:-1].T), strict=True)
    level = zip(*_runs((around[1:] != around[:-1])[:, 1:-1]), strict=True)
    # At each corner exactly one upright and one level line end, so they take turns around a region.
    down = {end: other for x, a, b in upright for end, other in (((x, a), (x, b)), ((x, b), (x, a)))}
    across = {end: other for y, a, b in level for end, other in (((a, y), (b, y)), ((b, y), (a, y)))}
    points: list[tuple[float, float]] = []
    while down:
        start = point = next(iter(down))
        while point in down:
            other = down.pop(point)
            del down[other]
            points += [point, other]
            point = across[other]
        points += [start, (np.nan, np.nan)]
    x, y = np.array(points, dtype=np.float32).reshape(-1, 2).T - 0.5
    return x, y


def _runs(edges: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """Row, start and end of each run of true values along the rows of `edges`."""
    change = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(change == 1)
    return row.tolist(), start.tolist(), np.nonzero(change == -1)[1].tolist()


def squares(patches: np.ndarray, grid: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The borders of patches (raster indices) as closed lines, x and y in pixels; NaN ends each."""
    side = size / grid
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0], [np.nan, np.nan]])
    places = np.stack([patches % grid, patches // grid], axis=1)
    lines = ((places[:, None] + corners) * side - 0.5).reshape(-1, 2).astype(np.float32)
    return lines[:, 0], lines[:, 1]


def centres(patches: np.ndarray, grid: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The centres of patches, x and y in pixels."""
    side = size / grid
    return (patches % grid + 0.5) * side - 0.5, (patches // grid + 0.5) * side - 0.5


def overlap(mask: np.ndarray, truth: np.ndarray) -> float | None:
    """Intersection over union of two masks; None where both are empty."""
    union = int((mask | truth).sum())
    return int((mask & truth).sum()) / union if union else None


def compared(look: Look, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the image in grey; found, missed and falsely marked pixels in their colours.

    Without a ground truth the mask alone is marked, as found.
    """
    grey = np.repeat(look.pixels.mean(axis=2, keepdims=True), 3, axis=2)
    truth = mask if look.truth is None else look.truth
    for colour, pixels in ((FOUND, mask & truth), (MISSED, truth & ~mask), (FALSE, mask & ~truth)):
        rgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
        grey[pixels] = 0.3 * grey[pixels] + 0.7 * rgb
    return grey.round().astype(np.uint8)


def sentences(look: Look, view: View, mask: np.ndarray) -> list[str]:
    """What the picture shows, in words: truth, score, mask, patches."""
    record, above = look.record, look.score >= view.threshold
    truth = {0: "normal", 1: "anomalous", None: "not known"}[record.label]
    called = "anomalous" if above else "normal"
    verdict = "" if record.label is None else ", right" if bool(record.label) == above else ", wrong"
    area = f"Mask: {mask.sum()} of {mask.size} pixels ({mask.mean():.1%})"
    if look.truth is None:
        area += "; no ground truth"
    else:
        shared = overlap(mask, look.truth)
        area += f"; ground truth {look.truth.mean():.1%}"
        area += f"; intersection over union {shared:.2f}" if shared is not None else "; both are empty"
    return [
        f"{record.category}, {record.defect}: the image is {truth}.",
        f"Score {look.score:.3f} {'≥' if above else '<'} threshold {view.threshold:.2f}: "
        f"called {called}{verdict}.",
        f"{area}.",
        f"Squares: the {view.count} most abnormal patches. Dots: {look.reading}.",
    ]


def data_uri(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as a PNG in an address, a few kilobytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png", compress_level=1)
    return png_address(file.getvalue())


def picture(look: Look, view: View) -> Figure:
    """The explorer's view as a picture that needs no browser."""
    mask = pixel_map(look, view) >= view.threshold
    figure = plt.figure(figsize=(7.2, 4.1), layout="none")
    image, heat, both = (figure.add_axes((left, 0.4, 0.3, 0.53)) for left in (0.01, 0.35, 0.69))
    extent = (-0.5, look.size - 0.5, look.size - 0.5, -0.5)
    image.imshow(look.pixels)
    shown = heat.imshow(patch_grid(look, view), cmap=COLOURS, vmin=0, vmax=1, extent=extent)
    both.imshow(compared(look, mask))
    for axis in (image, heat):
        edges = squares(look.ranking[: view.count], look.grid, look.size)
        axis.plot(*edges, color=SQUARE, linewidth=1.2)
        dots = centres(look.read, look.grid, look.size)
        axis.plot(*dots, "o", color="white", markeredgecolor="black", markersize=4)
        axis.plot(*outline(mask), color=LINE, linewidth=1.8)
    titles = ("image", _title(view), "mask and ground truth")
    for axis, title in zip((image, heat, both), titles, strict=True):
        axis.set(title=title, xlim=extent[:2], ylim=extent[2:])
        axis.set_axis_off()

    marks = zip(("s", "o", "_"), (SQUARE, "white", LINE), LEGEND.values(), strict=True)
    for mark, colour, name in marks:
        edge = "black" if mark == "o" else colour
        face = "none" if mark == "s" else colour
        image.plot([], [], mark, color=face, markeredgecolor=edge, label=name)
    for colour, name in ((FOUND, "found"), (MISSED, "missed"), (FALSE, "false alarm")):
        both.plot([], [], "s", color=colour, label=name)
    for axis in (image, both):
        below = dict(bbox_to_anchor=(0.5, 0), ncols=2, fontsize=8, handletextpad=0.2, columnspacing=0.8)
        axis.legend(loc="upper center", **below)
    scale = figure.add_axes((0.37, 0.37, 0.26, 0.02))
    figure.colorbar(shown, cax=scale, orientation="horizontal", label="abnormal probability")

    bars = figure.add_axes((0.2, 0.1, 0.78, 0.15))
    numbers = {**look.parts, "image score": look.score}
    bars.barh(list(numbers), list(numbers.values()), color=["0.75"] * len(look.parts) + [PALETTE[0]])
    bars.axvline(view.threshold, color=LINE, linewidth=1.8)
    bars.set(xlim=(0, 1), xlabel="abnormal probability; the line is the threshold")
    return figure


class Explorer:
    """The view with controls: it holds the widgets, and calls the functions above.

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
        names = [(_prompt(number), number) for number in range(self.look.n_prompts + 1)]
        self.prompt = ipywidgets.Dropdown(options=names, description="prompt", layout=wide)
        self.kind = ipywidgets.Dropdown(options=KINDS, value="mean", description="map", layout=wide)
        trained = lesson.model.settings.n_patches
        most = min(self.look.values.shape[-1], 4 * trained)
        self.count = ipywidgets.IntSlider(trained, min=1, max=most, description="M", layout=wide)
        self.threshold = ipywidgets.FloatSlider(
            0.5, min=0, max=1, step=0.01, description="threshold", layout=wide
        )
        self.words = ipywidgets.HTML()
        self.figure = _empty(self.look)
        self._traces = {trace.meta: trace for trace in self.figure.data}
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
            display(self.widget)
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
            self._traces["image"].source = data_uri(look.pixels)
            self._traces["heat"].customdata = _hover(look)
            for name in ("dots", "dots on the map"):
                self._traces[name].x, self._traces[name].y = centres(look.read, look.grid, look.size)
            self._traces["parts"].x = [*look.parts.values(), look.score]
            self._count_moved()
            self._map_moved()

    def _map_moved(self, _: Any = None) -> None:
        self._map = pixel_map(self.look, self.view)
        with self.figure.batch_update():
            self._traces["heat"].z = patch_grid(self.look, self.view)
            self.figure.layout.annotations[1].text = _title(self.view)
            self._threshold_moved()

    def _count_moved(self, _: Any = None) -> None:
        look = self.look
        with self.figure.batch_update():
            for name in ("squares", "squares on the map"):
                chosen = look.ranking[: self.count.value]
                self._traces[name].x, self._traces[name].y = squares(chosen, look.grid, look.size)
        self._say()

    def _threshold_moved(self, _: Any = None) -> None:
        mask = self._map >= self.threshold.value
        with self.figure.batch_update():
            for name in ("outline", "outline on the map"):
                self._traces[name].x, self._traces[name].y = outline(mask)
            self._traces["compared"].source = data_uri(compared(self.look, mask))
            self.figure.layout.shapes[0].update(x0=self.threshold.value, x1=self.threshold.value)
        self._say()

    def _say(self) -> None:
        said = sentences(self.look, self.view, self._map >= self.threshold.value)
        self.words.value = "<br>".join(escape(sentence) for sentence in said)


def _hover(look: Look) -> np.ndarray:
    """(g, g, 4) number of each patch, its rank, and its static and adapted values under all prompts."""
    rank = np.empty(len(look.ranking))
    rank[look.ranking] = np.arange(1, len(rank) + 1)
    numbers = np.stack([np.arange(len(rank)), rank, *look.values[:2, 0]], axis=1)
    return numbers.reshape(look.grid, look.grid, 4).astype(np.float32)


def _empty(look: Look) -> go.FigureWidget:
    """The figure with all its parts, before an image is shown in it; each trace's `meta` says what it is."""
    figure = make_subplots(
        rows=2,
        cols=3,
        specs=[[{}, {}, {}], [{"colspan": 3}, None, None]],
        row_heights=[0.76, 0.24],
        horizontal_spacing=0.03,
        vertical_spacing=0.08,
        subplot_titles=("image", "patches", "mask and ground truth"),
    )
    _add_pictures(figure, look)
    _add_marks(figure)
    _add_bars(figure, [*look.parts, "image score"])
    for column in (1, 2, 3):
        place = dict(row=1, col=column)
        ends = [-0.5, look.size - 0.5]
        figure.update_xaxes(visible=False, constrain="domain", range=ends, **place)
        square = {"scaleanchor": f"x{column}", "range": ends[::-1]}
        figure.update_yaxes(visible=False, constrain="domain", **square, **place)
    figure.update_layout(
        template="plotly_white",
        width=900,
        height=490,
        margin={"l": 10, "r": 10, "t": 100, "b": 10},
        legend={"orientation": "h", "x": 0, "y": 1.1, "yanchor": "bottom"},
    )
    return go.FigureWidget(figure)


def _add_pictures(figure: go.Figure, look: Look) -> None:
    for what, column in (("image", 1), ("compared", 3)):
        figure.add_image(meta=what, source=data_uri(look.pixels), hoverinfo="skip", row=1, col=column)
    side = look.size / look.grid
    figure.add_heatmap(
        meta="heat",
        z=np.zeros((look.grid, look.grid)),
        x0=side / 2 - 0.5,
        dx=side,
        y0=side / 2 - 0.5,
        dy=side,
        zmin=0,
        zmax=1,
        colorscale=COLOURS,
        colorbar={"title": {"text": "abnormal<br>probability"}, "thickness": 10, "x": 1.01},
        hovertemplate="patch %{customdata[0]}, rank %{customdata[1]}<br>here %{z:.3f}<br>"
        "all prompts: static %{customdata[2]:.3f}, adapted %{customdata[3]:.3f}<extra></extra>",
        row=1,
        col=2,
    )


def _add_marks(figure: go.Figure) -> None:
    dots = {
        "mode": "markers",
        "marker": {"color": "white", "size": 6, "line": {"color": "black", "width": 1}},
    }
    looks = {
        "squares": {"mode": "lines", "line": {"color": SQUARE, "width": 1.5}},
        "dots": dots,
        "outline": {"mode": "lines", "line": {"color": LINE, "width": 2.5}},
    }
    for column, part in ((1, ""), (2, " on the map")):
        for what, name in LEGEND.items():
            entry = {"name": name, "legendgroup": what, "showlegend": column == 1}
            figure.add_scatter(meta=what + part, hoverinfo="skip", **entry, **looks[what], row=1, col=column)
    for name, colour in (("found", FOUND), ("missed", MISSED), ("false alarm", FALSE)):
        mark = {"color": colour, "symbol": "square", "size": 10}
        entry = {"name": name, "mode": "markers", "marker": mark}
        figure.add_scatter(meta=name, x=[None], y=[None], **entry, row=1, col=3)


def _add_bars(figure: go.Figure, names: list[str]) -> None:
    # Without y, bars lie at 0, 1, 2 ...: a shared update unsets in the browser what it has for other traces
    # only, so no moving trace may have a fixed x or y.
    places = list(range(len(names)))
    figure.add_bar(
        meta="parts",
        orientation="h",
        marker={"color": ["#bfbfbf"] * (len(names) - 1) + [PALETTE[0]]},
        hovertext=names,
        hovertemplate="%{hovertext}: %{x:.3f}<extra></extra>",
        showlegend=False,
        row=2,
        col=1,
    )
    ends = {"x0": 0, "x1": 0, "y0": -0.5, "y1": len(names) - 0.5}
    figure.add_shape(type="line", line={"color": LINE, "width": 2.5}, **ends, row=2, col=1)
    figure.update_xaxes(range=[0, 1], title="abnormal probability; the line is the threshold", row=2, col=1)
    figure.update_yaxes(tickvals=places, ticktext=names, automargin=True, row=2, col=1)


def _title(view: View) -> str:
    return f"patches: {view.kind}, {_prompt(view.prompt)}"


def _prompt(number: int) -> str:
    return f"prompt {number}" if number else "all prompts"
