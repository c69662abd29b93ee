"""Large images in tiles: every pixel covered, weights that sum to one, a stated rule, bounded memory."""

import itertools
import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks import detector_tables, tiling
from benchmarks.detector_tables import GROWN, LAID
from data_prep.mini.sets import SETS
from fap_lib import Detector
from fap_lib.checkpoints import load_prompts, save_prompts
from fap_lib.cli import main
from fap_lib.clip.backbone import TINY, Backbone
from fap_lib.core import paths
from fap_lib.core.config import FeatureSettings, ModelSettings
from fap_lib.core.errors import KitError
from fap_lib.inference.export import describe
from fap_lib.inference.tiles import MOST_OVERLAP, Grid, Tiling
from fap_lib.model import FAPrompt

SIDE = 70


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory, backbone: Backbone) -> Path:
    """Random prompts of the tiny CLIP, whose prior sees random patches."""
    torch.manual_seed(5)
    settings = ModelSettings(deep_layers=2, selection="random")
    path = tmp_path_factory.mktemp("prompts") / "prompts.safetensors"
    features = FeatureSettings(backbone=TINY, image_size=SIDE, vv_blocks=2)
    save_prompts(path, FAPrompt(backbone.text_tower, settings, backbone.patch_width), backbone, features, {})
    return path


@pytest.fixture(scope="module")
def tiled(prompts: Path) -> Detector:
    return Detector.load(prompts, tile=SIDE)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


lengths = st.integers(1, 400)
grids = st.tuples(
    st.builds(Tiling, st.integers(16, 90), st.floats(0, MOST_OVERLAP)), lengths, lengths
).filter(lambda drawn: max(drawn[1:]) > drawn[0].size)


@settings(deadline=None, max_examples=60)
@given(grids)
def test_every_pixel_is_covered_and_weights_sum_to_one(drawn):
    tiling, width, height = drawn
    grid = tiling.grid(width, height)
    covered, total = np.zeros((height, width), int), np.zeros((height, width))
    down, across = grid.rows.weights(), grid.columns.weights()
    assert (down > 0).all()
    assert (across > 0).all()
    weights = [row[:, None] * column for row in down for column in across]
    for (left, top, right, lower), weight in zip(grid.boxes(), weights, strict=True):
        assert 0 <= left < right <= width
        assert 0 <= top < lower <= height
        assert max(right - left, lower - top) <= tiling.size
        covered[top:lower, left:right] += 1
        total[top:lower, left:right] += weight
    assert covered.min() >= 1
    np.testing.assert_allclose(total, 1, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(grids)
def test_neighbours_overlap_and_no_tile_is_superfluous(drawn):
    tiling, width, _ = drawn
    axis = tiling.grid(max(width, tiling.size + 1), 1).columns
    steps = np.diff(axis.starts)
    assert (steps > 0).all()
    # Starts are rounded to pixels, so that a step may be one longer than the even one.
    assert steps.max() <= axis.side - int(tiling.overlap * axis.side) + 1
    longest = axis.side - int(tiling.overlap * axis.side)
    assert (len(axis.starts) - 2) * longest < axis.length - axis.side


@settings(deadline=None, max_examples=60)
@given(grids, st.floats(0, 1))
def test_a_uniform_map_stays_uniform(drawn, value):
    tiling, width, height = drawn
    grid = tiling.grid(width, height)
    values = np.full((height, width), value / 2, np.float32)
    side = (grid.rows.side, grid.columns.side)
    grid.add(values, (np.full(side, value, np.float32) for _ in grid.boxes()), 0.5)
    np.testing.assert_allclose(values, value, atol=1e-6)


def test_a_seam_is_smooth():
    """Two tiles that disagree: the map passes from one to the other in steps that are small."""
    grid = Tiling(64, 0.5).grid(96, 64)
    values = np.zeros((64, 96), np.float32)
    grid.add(values, iter([np.zeros((64, 64), np.float32), np.ones((64, 64), np.float32)]), 1)
    assert (values[:, :32] == 0).all()
    np.testing.assert_allclose(values[:, 64:], 1, atol=1e-6)
    assert np.abs(np.diff(values, axis=1)).max() < 0.06


def test_images_not_larger_than_a_tile_are_as_without_tiles(prompts, tiled):
    plain = Detector.load(prompts)
    images = [picture(SIDE, SIDE), picture(40, 66), picture(20, 20)]
    for one, other in zip(plain.predict(images), tiled.predict(images), strict=True):
        assert (one.score, one.probability) == (other.score, other.probability)
        assert np.array_equal(one.map, other.map)


def test_the_rule_of_score_and_map(prompts, tiled):
    """Written out: the mean of the whole's and of the highest tile's score; tiles as images of their own."""
    plain, image = Detector.load(prompts), picture(130, 60)
    result, whole = tiled.predict(image), plain.predict(image)
    grid = tiled.tiling.grid(130, 60)
    parts = [image[top:low, left:right] for left, top, right, low in grid.boxes()]
    tiles = [plain.predict(part) for part in parts]
    top = max(tiles, key=lambda tile: tile.score)
    assert len(parts) == 3
    assert result.score == pytest.approx((whole.score + top.score) / 2, abs=1e-5)
    assert result.probability == pytest.approx((whole.probability + top.probability) / 2, abs=1e-5)
    merged = np.zeros((60, 130), np.float32)
    grid.add(merged, (tile.map for tile in tiles), 1)
    assert result.map.shape == (60, 130)
    np.testing.assert_allclose(result.map, (whole.map + merged) / 2, atol=1e-5)


def test_a_small_defect_is_found_where_it_is():
    """A dark hole of a few pixels in a large plain image, by the prompts that ship with the kit."""
    image = np.full((384, 384, 3), 160, np.uint8)
    image += np.random.default_rng(0).integers(0, 12, image.shape, dtype=np.uint8)
    rows, columns = np.mgrid[:384, :384]
    image[np.hypot(rows - 300, columns - 90) < 8] = 20
    result = Detector.load("paper", tile=96).predict(image)
    row, column = np.unravel_index(result.map.argmax(), result.map.shape)
    assert np.hypot(row - 300, column - 90) < 24


def test_tiles_pass_in_batches_and_none_is_cut_early(prompts, monkeypatch):
    """However many tiles an image has, no more than a batch of them is alive, nor more than three images."""
    detector = Detector.load(prompts, tile=SIDE, batch_size=4)
    alive, most, batches = weakref.WeakSet(), [0], []
    cut, forward = Grid.views, detector.forward

    class View(np.ndarray):
        """An array that can be counted."""

        __hash__ = object.__hash__

    def views(grid, image, size):
        for view in cut(grid, image, size):
            counted = view.view(View)
            alive.add(counted)
            most[0] = max(most[0], len(alive))
            yield counted

    def judge(pixels):
        batches.append(len(pixels))
        return forward(pixels)

    monkeypatch.setattr(Grid, "views", views)
    monkeypatch.setattr(detector, "forward", judge)
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield picture(500, 500, number)

    results = detector.predict(endless())
    assert [next(results).index, next(results).index] == [0, 1]
    assert len(detector.tiling.grid(500, 500).boxes()) == 100
    assert set(batches) == {4}
    assert most[0] <= 5
    assert len(taken) <= 2 + 3


def test_random_patches_are_drawn_from_the_image(tiled):
    """Prompts with `selection: random` work on any image: the same one has the same score, in any company."""
    image = picture(SIDE, SIDE, 1)
    alone = tiled.predict(image)
    among = list(tiled.predict([picture(SIDE, SIDE, 2), image]))[1]
    assert alone.score == tiled.predict(image).score
    assert among.score == pytest.approx(alone.score, abs=1e-5)
    other = image.copy()
    other[0, 0] ^= 1  # hardly another image, but other patches
    chosen = tiled.forward(np.stack([image, other, image])).chosen
    assert torch.equal(chosen[0], chosen[2])
    assert not torch.equal(chosen[0], chosen[1])


def test_tiling_and_threshold_travel_together(prompts, tmp_path):
    detector = Detector.load(prompts, tile=SIDE, overlap=0.5)
    normal = [picture(100, 80, seed) for seed in range(5)]
    detector.calibrate(normal, alpha=0.2)
    saved = tmp_path / "mine.safetensors"
    detector.save(saved)
    again = Detector.load(saved)
    assert again.tiling == Tiling(SIDE, 0.5)
    assert again.threshold == detector.threshold
    assert again.predict(normal[0]).score == detector.predict(normal[0]).score
    # In another way scored, the threshold says nothing.
    for other in (Detector.load(saved, tile=0), Detector.load(saved, tile=SIDE)):
        assert other.threshold is None
        assert other.predict(normal[0]).flagged is None
    Detector.load(saved, tile=0).save(tmp_path / "plain.safetensors")
    plain = Detector.load(tmp_path / "plain.safetensors")
    assert (plain.tiling, plain.threshold) == (None, None)


@pytest.mark.parametrize(
    "about",
    [
        {"tiling": 5},
        {"tiling": {"size": 96, "overlap": "much"}},
        {"tiling": {"side": 96}},
        {"threshold": {"score": 1}},
    ],
)
def test_what_no_detector_saved_is_refused(about, backbone, prompts, tmp_path):
    checkpoint = load_prompts(prompts, backbone)
    save_prompts(tmp_path / "odd.safetensors", checkpoint.model, backbone, checkpoint.features, about)
    with pytest.raises(KitError, match=r"odd\.safetensors is not a detector's file, or is damaged"):
        Detector.load(tmp_path / "odd.safetensors")


def test_an_export_says_that_tiles_are_outside_the_graph(prompts, tiled):
    about = describe(tiled)
    assert about["tiling"]["size"] == SIDE
    assert "not in the graph" in about["tiling"]["note"]
    assert describe(Detector.load(prompts))["tiling"] is None


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (8, 0.25, "tile = 8 must be a whole number of pixels, 16 or more"),
        (96.5, 0.25, r"tile = 96\.5 must be a whole number"),
        (96, 0.8, r"overlap = 0\.8 must be a share from 0 to 0\.75"),
        (96, -0.1, r"overlap = -0\.1 must be"),
    ],
)
def test_a_tiling_that_makes_no_sense(tile, overlap, message):
    with pytest.raises(KitError, match=message):
        Detector.load("paper", tile=tile, overlap=overlap)


def test_the_command_scores_in_tiles(tmp_path, capsys):
    folder, random = tmp_path / "large", np.random.default_rng(0)
    for defect in ("good", "spot"):
        pixels, mask = toy.draw("dots", defect, random)
        for kind, content in (("test", np.tile(pixels, (2, 2, 1))), ("ground_truth", np.tile(mask, (2, 2)))):
            (folder / kind / defect).mkdir(parents=True)
            Image.fromarray(content).save(folder / kind / defect / "0.png")
    (folder / "ground_truth" / "good" / "0.png").unlink()
    assert main(["score", str(folder), "--tile", "100", "--overlap", "0.3"]) == 0
    run = paths.runs() / "score-large"
    record = json.loads((run / "run.json").read_text())
    assert record["settings"]["tiling"] == {"size": 100, "overlap": 0.3}
    assert "tiles of 100 pixels that overlap by 30% or more" in (run / "gallery.html").read_text()
    assert "pixel,auroc" in (run / "metrics.csv").read_text()
    with Image.open(next((run / "maps").rglob("*.png"))) as drawn:
        assert drawn.size == (196, 196)
    capsys.readouterr()
    assert main(["score", str(folder), "--overlap", "0.3"]) == 2
    assert "--overlap is of tiles; give --tile with it" in capsys.readouterr().err


def test_the_benchmark_measures_whole_images_and_tiles_by_group(monkeypatch):
    few = {"mini-test": replace(SETS["mini-test"], categories=("cable",))}
    for name, value in {"SETS": few, "GOOD": 3, "EACH": 1, "EACH_STRUCTURAL": 2}.items():
        monkeypatch.setattr(tiling, name, value)
    kinds = [tiling.group(category, kind) for category, kind, _ in tiling.drawn(1)]
    assert (kinds.count("good"), kinds.count(GROWN["cable"])) == (3, 4)
    assert tiling.group("corrugated", "bent") == LAID  # no larger in a larger image
    way = tiling.measure(1, 72)
    assert (way["side"], way["tiles"], way["images"]) == (96, 4, len(kinds))
    assert way["seconds"] > 0
    assert 0 < way[LAID] <= 100
    ways = [way | {"tile": None, "tiles": 0, GROWN["screw"]: 12.34}]
    table = detector_tables.quality({"about": {"cpu": "C", "torch": "T"}, "ways": ways})
    assert table.splitlines()[2].startswith("| 96 px | none | ")
    assert " 12.3 |" in table


def test_what_was_not_measured_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(detector_tables, "EXPORT", tmp_path / "export.json")
    assert detector_tables.tables()["export"] == "Not yet measured: `python -m benchmarks.export`."
