"""The explorer: what its functions compute, and that its widgets show just that, fast enough."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import toy

from fap_lib.core.config import ModelSettings
from fap_lib.evaluation.scoring import score
from fap_lib.lessons.lesson import Lesson, open_lesson
from fap_lib.model import FAPrompt
from fap_lib.pictures import marks, snapshot, views
from fap_lib.pictures.explorer import Explorer
from fap_lib.pictures.views import Look, View
from fap_lib.runs.parameters import LessonRun

LIMIT = 150
"""Milliseconds that a slider's move may take."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the kit with a small mini world."""
    home = tmp_path_factory.mktemp("home")
    toy.mini(home / "data" / "mini-test")
    return home


def opened(world: Path, prompts: str) -> Lesson:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAP_HOME", str(world))
        return open_lesson(LessonRun(data="mini-test", prompts=prompts))


@pytest.fixture(scope="module")
def lesson(world: Path) -> Lesson:
    return opened(world, "paper")


@pytest.fixture(scope="module")
def thread(lesson: Lesson) -> int:
    """The image with an anomaly that the kit finds: a thread on a pill."""
    found = [(record.category, record.defect) for record in lesson.cache.records]
    return found.index(("pill", "thread"))


@pytest.fixture(scope="module")
def look(lesson: Lesson, thread: int) -> Look:
    return views.look_at(lesson, thread)


@pytest.fixture
def widget(lesson: Lesson, thread: int) -> Explorer:
    return Explorer(lesson, thread)


# What is computed


def test_it_shows_what_scoring_computes(lesson: Lesson, tmp_path: Path):
    scores = score(lesson.model, lesson.cache, lesson.profile.scoring, tmp_path / "maps.npy")
    for index in range(0, len(lesson.cache), 7):
        look = views.look_at(lesson, index)
        assert look.score == pytest.approx(scores.image[index], abs=1e-5)
        assert np.allclose(look.values[:2, 0], scores.patches[index], atol=1e-5)
        whole = scores.maps(np.array([index]), lesson.profile.scoring.sigma)[0]
        assert np.allclose(views.pixel_map(look, View(10)), whole, atol=1e-5)
        truth = lesson.cache.masks(np.array([index]))[0].numpy()
        assert np.array_equal(look.truth, truth)


def test_the_score_is_made_of_its_parts(look: Look):
    whole, static, adapted = look.parts.values()
    assert look.score == pytest.approx(0.5 * (whole + (2 * static + adapted) / 3), abs=1e-6)


def test_maps_of_single_prompts(lesson: Lesson, look: Look, thread: int):
    model = lesson.model
    with torch.no_grad():
        image, patches = lesson.cache.features(np.array([thread]))
        static = model.static_text()
        prior = model(image, patches, static).prior
        for row, given in enumerate((None, prior)):
            maps = model.prompt_maps(patches, static, given)[0]
            assert np.allclose(look.values[row, 1:], maps, atol=1e-5)
    assert np.allclose(look.values[2], look.values[:2].mean(0), atol=1e-6)
    assert look.values.shape == (3, 1 + model.settings.n_prompts, look.grid**2)
    assert 0 <= look.values.min() <= look.values.max() <= 1
    # What the notebook says of its own image: static prompts disagree, adapted ones are sure.
    static, adapted = look.values[:2, 1:].max(2)
    assert np.ptp(static) > 0.4
    assert adapted.min() > 0.9


def test_the_most_abnormal_patches_are_those_the_prior_reads(lesson: Lesson, look: Look):
    count = lesson.model.settings.n_patches
    assert look.ranking[:count].tolist() == look.read.tolist()
    assert sorted(look.ranking) == list(range(look.grid**2))
    assert (np.diff(look.values[0, 0, look.ranking]) <= 0).all()


def test_released_prompts_read_the_first_patches_and_it_says_so(world: Path):
    look = views.look_at(opened(world, "released"), 0)
    assert look.read.tolist() == list(range(10))
    assert "the first 10 patches of the image, not the most abnormal ones" in look.reading


def test_prompts_without_a_prior_say_so(lesson: Lesson):
    settings = ModelSettings(deep_layers=3, n_prompts=2, prior=False)
    model = FAPrompt(lesson.backbone.text_tower, settings, lesson.backbone.patch_width).eval()
    look = views.look_at(replace(lesson, model=model), 0)
    assert np.array_equal(look.values[0], look.values[1])
    assert not len(look.read)
    assert "no prior" in look.reading


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_an_outline_holds_its_mask_exactly(share: float):
    mask = np.random.default_rng(3).random((13, 13)) < share
    x, y = marks.outline(mask)
    inside = np.zeros_like(mask)  # a pixel is inside if an odd number of upright lines is left of it
    for x0, y0, x1, y1 in zip(x, y, x[1:], y[1:], strict=False):
        if x0 == x1:
            top, bottom = sorted((int(y0 + 0.5), int(y1 + 0.5)))
            inside[top:bottom, int(x0 + 0.5) :] ^= True
    assert np.array_equal(inside, mask)


def test_an_outline_by_hand():
    mask = np.zeros((3, 3), bool)
    mask[1, 1:] = True
    x, y = marks.outline(mask)
    assert set(zip(x[:-1].tolist(), y[:-1].tolist(), strict=True)) == {
        (0.5, 0.5),
        (2.5, 0.5),
        (0.5, 1.5),
        (2.5, 1.5),
    }
    assert (x[0], y[0]) == (x[-2], y[-2])  # closed
    assert np.isnan(x[-1])


def test_squares_and_centres_by_hand():
    x, y = marks.squares(np.array([3]), grid=2, size=8)
    assert x[:-1].tolist() == [3.5, 7.5, 7.5, 3.5, 3.5]
    assert y[:-1].tolist() == [3.5, 3.5, 7.5, 7.5, 3.5]
    assert [place.tolist() for place in marks.centres(np.array([1, 2]), grid=2, size=8)] == [
        [5.5, 1.5],
        [1.5, 5.5],
    ]


def test_paths_by_hand():
    x, y = np.array([0, 2, 2, np.nan, 5, 6, np.nan]), np.array([0, 0, 1.5, np.nan, 5, 6, np.nan])
    assert marks.svg_path(x, y) == "M0,0L2,0L2,1.5ZM5,5L6,6Z"
    assert marks.svg_path(*marks.outline(np.zeros((3, 3), bool))) == "M0,0Z"


def test_overlap_by_hand():
    mask, truth = np.array([[1, 1, 0]], bool), np.array([[0, 1, 1]], bool)
    assert views.overlap(mask, truth) == pytest.approx(1 / 3)
    assert views.overlap(mask, ~mask) == 0
    assert views.overlap(mask & ~mask, truth & ~truth) is None


def test_pixels_found_missed_and_falsely_marked_differ(look: Look):
    assert look.truth is not None
    mask = np.roll(look.truth, 3, axis=1)
    picture = marks.compared(look.pixels, look.truth, mask).astype(int)
    spread = np.ptp(picture, axis=2)
    assert (spread[mask | look.truth] > 0).all()
    assert (spread[~mask & ~look.truth] == 0).all()
    marked = [mask & look.truth, look.truth & ~mask, mask & ~look.truth]
    assert len({tuple(np.sign(np.diff(picture[pixels].mean(0))).tolist()) for pixels in marked}) == 3


def test_words(look: Look):
    mask = views.pixel_map(look, View(10, threshold=0.4)) >= 0.4
    first, second, third, fourth = views.sentences(look, View(12, threshold=0.4), mask)
    assert first == "pill, thread: the image is anomalous."
    assert second == f"Score {look.score:.3f} ≥ threshold 0.40: called anomalous, right."
    assert f"{mask.sum()} of {mask.size} pixels" in third
    assert fourth.startswith(
        "Squares: the 12 most abnormal patches. Dots: the prior network was trained to read"
    )
    high = views.sentences(look, View(10, threshold=1.0), mask)[1]
    assert high == f"Score {look.score:.3f} < threshold 1.00: called normal, wrong."
    unknown = replace(look, truth=None, record=replace(look.record, label=None))
    first, second, third, _ = views.sentences(unknown, View(10), mask)
    assert "not known" in first
    assert second.endswith("called anomalous.")
    assert "no ground truth" in third
    assert marks.compared(unknown.pixels, unknown.truth, mask).shape == look.pixels.shape


def test_the_picture_without_a_browser(look: Look):
    figure = snapshot.picture(look, View(10))
    heat = figure.axes[1].images[0]
    assert heat.get_clim() == (0, 1)
    assert np.allclose(heat.get_array(), views.patch_grid(look, View(10)))
    plt.close(figure)


# What the widgets show


def shown_by(widget: Explorer) -> dict:
    """Traces, pictures and shapes of the figure by name."""
    layout = widget.figure.layout
    return {trace.meta: trace for trace in widget.figure.data} | {
        part.name: part for part in (*layout.images, *layout.shapes)
    }


def test_moved_controls_show_what_the_functions_compute(widget: Explorer):
    widget.prompt.value, widget.kind.value = 3, "adapted"
    widget.threshold.value, widget.count.value = 0.7, 4
    assert widget.view == View(4, 3, "adapted", 0.7)
    shown, look = shown_by(widget), widget.look
    mask = views.pixel_map(look, widget.view) >= 0.7
    assert np.array_equal(shown["heat"].z, views.patch_grid(look, widget.view))
    assert (shown["heat"].zmin, shown["heat"].zmax) == (0, 1)
    for part in ("", " on the map"):
        assert shown[f"outline{part}"].path == marks.svg_path(*marks.outline(mask))
        squares = marks.squares(look.ranking[:4], look.grid, look.size)
        assert shown[f"squares{part}"].path == marks.svg_path(*squares)
    assert shown["compared"].source == marks.data_uri(marks.compared(look.pixels, look.truth, mask))
    line = shown["threshold"]
    assert (line.x0, line.x1) == (0.7, 0.7)
    assert widget.words.value.startswith("pill, thread: the image is anomalous.<br>Score ")
    assert f"Mask: {mask.sum()} of" in widget.words.value
    assert "adapted, prompt 3" in widget.figure.layout.annotations[1].text


def test_marking_more_patches_changes_no_map_and_no_dot(widget: Explorer):
    before = shown_by(widget)["heat"].z.copy()
    widget.count.value = 30
    assert np.array_equal(shown_by(widget)["heat"].z, before)
    assert len(shown_by(widget)["dots"].x) == 10
    assert "Squares: the 30 most abnormal" in widget.words.value


def test_choosing_an_image(widget: Explorer, lesson: Lesson):
    widget.category.value = "leather"
    assert (widget.defect.value, widget.number.value) == ("thread", 1)  # the same defect, where there is one
    widget.defect.value = "good"
    assert widget.number.max == 2
    widget.number.value = 2
    record = widget.look.record
    assert (record.category, record.defect) == ("leather", "good")
    assert record.image.endswith("001.png")
    assert shown_by(widget)["image"].source == marks.data_uri(widget.look.pixels)
    assert "the image is normal" in widget.words.value
    for index in range(len(lesson.cache)):
        widget.choose(index)
        assert widget.look.record == lesson.cache.records[index]


def test_names_are_text_and_no_markup(widget: Explorer):
    widget.look = replace(widget.look, record=replace(widget.look.record, defect="<img src=x>"))
    widget.threshold.value = 0.3
    assert "&lt;img src=x&gt;" in widget.words.value


def test_pictures_are_light(widget: Explorer):
    sent = [len(picture.source) for picture in widget.figure.layout.images]
    assert max(sent) < 40_000


def test_a_headless_run_shows_no_widget(widget: Explorer, capsys: pytest.CaptureFixture):
    widget.show()
    assert "are shown where a person runs this notebook" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("control", "values"),
    [
        ("threshold", [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8]),
        ("count", [1, 5, 12, 20, 30, 40, 7]),
    ],
)
def test_a_slider_answers_at_once(widget: Explorer, control: str, values: list[float]):
    """The real callback with all it updates; the browser's drawing is not in it."""
    taken = []
    for value in values:
        start = time.perf_counter()
        getattr(widget, control).value = value
        taken.append(1000 * (time.perf_counter() - start))
    print(f"{control}: {statistics.median(taken):.1f} ms")
    assert statistics.median(taken) < LIMIT
