"""The explorer's figure in the browser: its parts, and nothing of what moves them."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fap_lib.pictures.marks import FALSE, FOUND, LEGEND, LINE, MISSED, SQUARE, data_uri
from fap_lib.pictures.style import COLOURS, PALETTE
from fap_lib.pictures.views import Look

ON_MAP = " on the map"
"""Ends the names of marks over the patches; those over the image have the name alone."""


def hover(look: Look) -> np.ndarray:
    """(g, g, 4) number of each patch, its rank, and its static and adapted values under all prompts."""
    rank = np.empty(len(look.ranking))
    rank[look.ranking] = np.arange(1, len(rank) + 1)
    numbers = np.stack([np.arange(len(rank)), rank, *look.values[:2, 0]], axis=1)
    return numbers.reshape(look.grid, look.grid, 4).astype(np.float32)


def empty(look: Look) -> go.FigureWidget:
    """The figure with all its parts, before an image is shown in it.

    Each trace's `meta`, and each picture's and shape's `name`, says what it is. What a slider moves is a
    picture or a shape of the layout: the browser draws those alone, but all traces again where one changes.
    """
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
    _add_heat_map(figure, look)
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
        autosize=True,
        height=490,
        margin={"l": 10, "r": 10, "t": 100, "b": 10},
        legend={"orientation": "h", "x": 0, "y": 1.1, "yanchor": "bottom"},
    )
    widget = go.FigureWidget(figure)
    widget._config = widget._config | {"responsive": True}  # as `show(config=...)` of other figures
    return widget


def _add_pictures(figure: go.Figure, look: Look) -> None:
    place = dict(x=-0.5, y=-0.5, sizex=look.size, sizey=look.size, sizing="stretch", layer="below")
    for what, column in (("image", 1), ("compared", 3)):
        figure.add_layout_image(name=what, source=data_uri(look.pixels), **place, row=1, col=column)


def _add_heat_map(figure: go.Figure, look: Look) -> None:
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
    dots = {"color": "white", "size": 6, "line": {"color": "black", "width": 1}}
    lines = {"squares": {"color": SQUARE, "width": 1.5}, "outline": {"color": LINE, "width": 2.5}}
    for column, part in ((1, ""), (2, ON_MAP)):
        place = dict(row=1, col=column)
        entry = {
            "name": LEGEND["dots"],
            "legendgroup": "dots",
            "showlegend": column == 1,
            "hoverinfo": "skip",
        }
        figure.add_scatter(meta="dots" + part, mode="markers", marker=dots, **entry, **place)
        for what, line in lines.items():
            figure.add_shape(name=what + part, type="path", path="M0,0Z", line=line, **place)
    for what, line in lines.items():  # shapes have no entry in the legend
        entry = {"name": LEGEND[what], "mode": "lines", "line": line}
        figure.add_scatter(meta=f"legend of {what}", x=[None], y=[None], **entry, row=1, col=1)
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
    line = {"color": LINE, "width": 2.5}
    figure.add_shape(name="threshold", type="line", line=line, **ends, row=2, col=1)
    figure.update_xaxes(range=[0, 1], title="abnormal probability; the line is the threshold", row=2, col=1)
    around = [-0.5, len(names) - 0.5]
    figure.update_yaxes(range=around, tickvals=places, ticktext=names, automargin=True, row=2, col=1)
