"""The generated world: images, datasets, pre-training, baselines, and what the shipped weights can do."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks import study, study_tables
from data_prep.mini import benchmark, captions, sets
from data_prep.mini.canvas import STRUCTURAL
from data_prep.mini.defects import DEFECTS
from data_prep.mini.generator import CATEGORIES, KINDS, Sample, kinds_of, sample
from data_prep.mini.sets import SETS, UNSEEN
from fap_lib import checkpoints
from fap_lib.cli import main
from fap_lib.clip import mini
from fap_lib.clip.backbone import Backbone, load_backbone
from fap_lib.core import paths
from fap_lib.core.config import Profile, load_profile
from fap_lib.core.errors import KitError
from fap_lib.data.features import FeatureCache, features
from fap_lib.data.manifest import read_manifest
from fap_lib.evaluation import baselines
from fap_lib.evaluation.scoring import MEAN, score, score_with
from pretraining import loop, pool
from pretraining.batches import Vocabulary
from pretraining.recipes import RECIPES, UNSEEN_CATEGORIES, UNSEEN_KINDS, Recipe

PAIRS = [(category, kind) for category in CATEGORIES for kind in kinds_of(category)]


# Images


def test_the_world_is_as_large_as_promised():
    assert len(CATEGORIES) >= 20
    assert len(KINDS) >= 16
    assert set(STRUCTURAL) == {kind for entry in CATEGORIES.values() for kind in entry.faults}


def test_the_same_seed_draws_the_same_image():
    one, again, other = (sample("chip", "bent", seed) for seed in (3, 3, 4))
    assert np.array_equal(one.pixels, again.pixels)
    assert np.array_equal(one.mask, again.mask)
    assert not np.array_equal(one.pixels, other.pixels)


@pytest.fixture(scope="module")
def drawn() -> dict[tuple[str, str], list[Sample]]:
    """Three images of every defect on every category that can have it."""
    return {pair: [sample(*pair, [11, i], benchmark.SIZE_FACTOR) for i in range(3)] for pair in PAIRS}


def test_every_defect_can_be_drawn_and_has_a_visible_mask(drawn):
    for pair, samples in drawn.items():
        for one in samples:
            assert 0.003 <= one.mask.mean() <= 0.35, pair
            assert one.pixels.dtype == np.uint8


def test_defects_cover_two_to_four_per_cent_of_the_image_and_vary(drawn):
    areas = np.array([one.mask.mean() for samples in drawn.values() for one in samples])
    assert 0.02 <= areas.mean() <= 0.04
    assert np.quantile(areas, 0.9) > 6 * np.quantile(areas, 0.1)


def test_a_defect_changes_no_pixel_outside_its_mask():
    rng = np.random.default_rng(0)
    pixels = rng.random((96, 96, 3)).astype(np.float32)
    everywhere = np.ones((96, 96), bool)
    for kind, draw in DEFECTS.items():
        damaged, mask = draw(pixels, everywhere, np.random.default_rng(1), 1.2)
        assert np.array_equal(damaged[~mask], pixels[~mask]), kind
        assert (damaged[mask] != pixels[mask]).any(), kind


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("leter", None, 0), "unknown category 'leter'; the nearest known one is 'leather'"),
        (("wood", "scratc", 0), "unknown defect 'scratc' of wood; the nearest known one is 'scratch'"),
        (("wood", "bent", 0), "unknown defect 'bent' of wood"),
        (("wood", "hole", 0, 1e-5), "no visible defect 'hole' could be drawn on wood with size 1e-05"),
    ],
)
def test_an_impossible_image_is_refused_in_one_sentence(arguments, message):
    with pytest.raises(KitError, match=message):
        sample(*arguments)


def test_a_larger_image_has_the_same_scene_and_defects_as_small_as_ever(drawn):
    small, large = (np.zeros(2) for _ in range(2))
    for pair in (("leather", "hole"), ("carpet", "stain"), ("nut", "scratch"), ("pill", "chipped")):
        for index, one in enumerate(drawn[pair]):
            four = sample(*pair, [11, index], benchmark.SIZE_FACTOR, scale=4)
            assert four.pixels.shape == (384, 384, 3)
            assert four.mask.shape == four.foreground.shape == (384, 384)
            assert four.words["colour"] == one.words["colour"]
            assert four.foreground.mean() == pytest.approx(one.foreground.mean(), abs=0.02)
            small += one.mask.sum(), 1
            large += four.mask.sum(), 1
    assert large[0] / small[0] == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize(
    ("category", "kind", "factor"),
    [("cable", "swapped", 16), ("screw", "bent", 16), ("corrugated", "bent", 1)],
)
def test_structural_faults_grow_with_an_object_and_not_with_a_surface(category, kind, factor):
    areas = [
        np.mean([sample(category, kind, [2, index], scale=scale).mask.sum() for index in range(4)])
        for scale in (1, 4)
    ]
    assert factor / 2 < areas[1] / areas[0] < factor * 2


# Datasets


def test_a_name_says_set_draw_and_scale():
    for name, expected in {
        "mini-test": ("mini-test", 0, 1),
        "mini-test-d2": ("mini-test", 2, 1),
        "mini-test-x4": ("mini-test", 0, 4),
        "mini-b-d12-x2": ("mini-b", 12, 2),
    }.items():
        assert sets.parse(name) == expected
        assert str(sets.parse(name)) == name
    for name in ("mini-test-x1", "mini-test-x6", "mini-test-d0", "mini-test-x4-d2", "mini-test-x", "-x4"):
        with pytest.raises(KitError, match="unknown generated dataset"):
            sets.parse(name)


@pytest.mark.usefixtures("few")
def test_a_scale_is_a_dataset_of_its_own(tmp_path, monkeypatch, capsys):
    few_ = {"mini-test": replace(SETS["mini-test"], categories=("pill",), good=1, each=1, train=0)}
    monkeypatch.setattr(benchmark, "SETS", benchmark.SETS | few_)
    assert main(["mini", "draw", "mini-test", "--scale", "2"]) == 0
    assert "mini-test-x2, test: 1 normal, 15 anomalous" in capsys.readouterr().out
    large, plain = paths.data() / "mini-test-x2", benchmark.generate(tmp_path / "plain", "mini-test")
    assert json.loads((large / "dataset.json").read_text())["scale"] == 2
    assert "scale" not in json.loads((plain.root / "dataset.json").read_text())
    with Image.open(large / plain.records("test")[0].image) as image:
        assert image.size == (192, 192)
    with pytest.raises(KitError, match="is not empty and does not hold mini-test-x2"):
        benchmark.generate(plain.root, "mini-test-x2")


def test_test_categories_and_defects_are_kept_from_training():
    tested = {*SETS["mini-test"].categories, *SETS["mini-organs"].categories}
    for name in ("mini-a", "mini-b", "mini-val"):
        assert not tested & set(SETS[name].categories)
        assert set(UNSEEN) <= set(SETS[name].without)
    assert not set(SETS["mini-a"].categories) & set(SETS["mini-b"].categories)
    assert not set(SETS["mini-val"].categories) & {*SETS["mini-a"].categories, *SETS["mini-b"].categories}
    assert set(UNSEEN_KINDS) == set(UNSEEN)
    assert set(UNSEEN_CATEGORIES) < tested


@pytest.fixture
def few(monkeypatch) -> None:
    """Sets of a few images."""
    small = {name: replace(entry, good=2, each=1, train=1) for name, entry in SETS.items()}
    monkeypatch.setattr(benchmark, "SETS", small)


@pytest.mark.usefixtures("few")
def test_a_dataset_lies_as_mvtec_ad_does_and_draws_differ(tmp_path):
    manifest = benchmark.generate(tmp_path / "one", "mini-b")
    root = manifest.root
    assert sorted(path.name for path in (root / "tile").iterdir()) == [
        "foreground",
        "ground_truth",
        "test",
        "train",
    ]
    assert (root / "tile" / "train" / "good" / "000.png").is_file()
    for record in manifest.records("test"):
        assert (record.mask is None) == (record.label == 0) == (record.defect == "good")
        assert (
            record.mask is None or Image.open(root / record.mask).size == Image.open(root / record.image).size
        )
        assert study.outline(manifest.root, record.image).is_file()
    assert not {record.defect for record in manifest.records("test")} & set(SETS["mini-b"].without)

    again = benchmark.generate(root, "mini-b")
    assert again == read_manifest(root)
    other = benchmark.generate(tmp_path / "two", "mini-b-d1")
    image = manifest.records("test")[0].image
    assert (root / image).read_bytes() != (other.root / image).read_bytes()


@pytest.mark.usefixtures("few")
def test_an_interrupted_generation_leaves_nothing_and_is_made_again(tmp_path, monkeypatch):
    real, calls = benchmark.sample, []

    def stops(*arguments):
        calls.append(arguments)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(benchmark, "sample", stops)
    with pytest.raises(KeyboardInterrupt):
        benchmark.generate(tmp_path / "set", "mini-val")
    assert not (tmp_path / "set").exists()
    assert len(benchmark.generate(tmp_path / "set", "mini-val").records("train")) == 4


def test_a_folder_that_is_not_empty_and_an_unknown_name_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(KitError, match="is not empty and does not hold mini-a"):
        benchmark.generate(tmp_path, "mini-a")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mine.txt"]
    with pytest.raises(KitError, match="unknown generated dataset 'mini-tst'; the nearest is 'mini-test'"):
        sets.parse("mini-tst")


# Captions and pre-training


def test_captions_use_known_words_and_state_words_are_rare_and_often_wrong():
    rng = np.random.default_rng(0)
    states = captions.StateWords(share=0.2, right=0.7)
    vocabulary = Vocabulary()
    right = wrong = 0
    for index in range(4000):
        look = captions.appearance("crack", "dark", "black", rng) if index % 2 else None
        text = captions.image_caption("coin", {"colour": "grey", "background": "white"}, look, states, rng)
        vocabulary([text])  # raises on a token without a row
        said = {True: captions.ABNORMAL_WORDS, False: captions.NORMAL_WORDS}
        right += any(word in text.split() for word in said[look is not None])
        wrong += any(word in text.split() for word in said[look is None])
    assert 0.17 < (right + wrong) / 4000 < 0.23
    assert 0.65 < right / (right + wrong) < 0.75


SHORT = Recipe(images=1000, steps=4, stages=((0.5, 48, 6), (0.5, 96, 4)), warm_up=2)


def test_pre_training_that_was_stopped_continues_bit_for_bit(tmp_path, monkeypatch):
    whole = load_file(loop.train(tmp_path / "whole", SHORT))
    (tmp_path / "halted").mkdir()
    (tmp_path / "whole" / "pool").rename(tmp_path / "halted" / "pool")
    real, calls = loop.losses, []

    def stops(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "losses", stops)
    with pytest.raises(KeyboardInterrupt):
        loop.train(tmp_path / "halted", SHORT, save_every=2)
    monkeypatch.undo()
    halted = load_file(loop.train(tmp_path / "halted", SHORT, save_every=2))
    assert whole.keys() == halted.keys()
    assert all(torch.equal(whole[name], halted[name]) for name in whole)

    with pytest.raises(KitError, match="holds a run of another recipe"):
        loop.train(tmp_path / "halted", replace(SHORT, seed=1))

    state = tmp_path / "halted" / "state.safetensors"
    content = bytearray(state.read_bytes())
    content[-9] ^= 1
    state.write_bytes(content)
    with pytest.raises(KitError, match=r"state.safetensors is damaged: .*cannot be continued"):
        loop.train(tmp_path / "halted", SHORT)


def test_a_damaged_chunk_of_pre_training_images_is_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "CHUNK", 6)
    monkeypatch.setattr(pool, "spread", lambda work, jobs, *_: map(work, jobs))
    recipe = replace(SHORT, images=18)
    whole = pool.draw_pool(tmp_path, recipe)
    content = bytearray((tmp_path / "chunk-001.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "chunk-001.npz").write_bytes(content)
    (tmp_path / "chunk-002.npz").write_bytes(b"PK")
    again = pool.draw_pool(tmp_path, recipe)
    assert np.array_equal(again.pixels, whole.pixels)
    assert np.array_equal(again.labels, whole.labels)


# The shipped weights


@pytest.fixture(scope="module")
def shipped() -> Backbone:
    return load_backbone(mini.MINI)


@pytest.fixture(scope="module")
def setting() -> Profile:
    return load_profile("mini")


@pytest.fixture(scope="module")
def caches(tmp_path_factory, shipped, setting) -> tuple[FeatureCache, FeatureCache]:
    """A small auxiliary and a small test set."""
    small = {name: replace(entry, good=10, each=1, train=0) for name, entry in SETS.items()}
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "SETS", small)
        patch.setenv("FAP_HOME", str(home))
        one, two = (benchmark.generate(home / name, name) for name in ("mini-a", "mini-test"))
        return tuple(features(each, "test", shipped, setting.features) for each in (one, two))


@pytest.fixture(scope="module")
def trivial(caches, shipped, setting, tmp_path_factory) -> dict[str, dict[str, float]]:
    """The figures of predictors that have seen nothing, by name."""
    _, test = caches
    place = tmp_path_factory.mktemp("trivial")
    found = {}
    for name in study.TRIVIAL:
        predict = study.predictor(name, test, test, shipped, setting, 0)
        found[name] = means(score_with(predict, test, setting.scoring, place / f"{name}.npy"), setting)
    return found


def test_the_weights_are_small_and_say_how_they_were_made():
    assert sum(path.stat().st_size for path in mini.WEIGHTS.glob("*.safetensors")) <= 8_000_000
    for name, recipe in RECIPES.items():
        said = mini.recipe(mini.WEIGHTS / f"{name}.safetensors")
        assert said == {key: str(value) for key, value in vars(recipe).items()}
    for name, value in load_file(mini.WEIGHTS / "mini.safetensors").items():
        assert value.dtype == (torch.int32 if name == mini.ROWS else torch.float16), name


def test_the_twin_shares_the_image_tower_and_not_the_text_tower(shipped):
    twin = load_backbone(mini.SILENT)
    for name, value in twin.clip.visual.state_dict().items():
        assert torch.equal(value, shipped.clip.visual.state_dict()[name])
    assert not torch.equal(twin.clip.text_projection, shipped.clip.text_projection)


def test_damaged_or_foreign_weights_end_in_one_sentence(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes((mini.WEIGHTS / "mini.safetensors").read_bytes()[:5000])
    with pytest.raises(KitError, match="is damaged"):
        load_backbone(mini.MINI, tmp_path / "cut.safetensors")
    with pytest.raises(KitError, match="does not hold the mini CLIP"):
        load_backbone(mini.MINI, mini.prompts("paper"))


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_the_shipped_prompts_find_defects_on_unseen_categories(
    mode, caches, trivial, shipped, setting, tmp_path
):
    _, test = caches
    loaded = checkpoints.load_prompts(mini.prompts(mode), shipped)
    assert loaded.model.settings.mode == mode
    assert loaded.about["dataset"] == "mini-a"
    learned = means(score(loaded.model, test, setting.scoring, tmp_path / "maps.npy"), setting)
    assert learned["image_auroc"] > 0.75
    assert trivial
    for name, figures in trivial.items():
        for metric in ("image_auroc", "pixel_auroc", "pixel_auroc_foreground"):
            assert learned[metric] > figures[metric] + 0.05, (name, metric)


def test_baselines_predict_probabilities_and_the_probe_learns(caches, shipped, setting, tmp_path):
    training, test = caches
    words = baselines.WORDINGS["ensemble"]
    hand = baselines.hand_written(shipped, test, words, named=True, temperature=0.07)(np.arange(3))
    assert hand.static.shape == (3, 144, 2)
    assert torch.allclose(hand.static.sum(-1), torch.ones(3, 144))
    assert ((hand.score >= 0) & (hand.score <= 1)).all()
    probe = baselines.linear_probe(training, test)
    scores = score_with(probe, test, setting.scoring, tmp_path / "probe.npy")
    assert means(scores, setting)["pixel_auroc"] > 0.85


def means(scores, setting: Profile) -> dict[str, float]:
    return next(row for row in study.measure(scores, setting) if row["category"] == MEAN)


# The study


def test_gains_pair_runs_and_intervals_count_each_cell_once():
    rows = []
    for train, draw, step in (
        ("mini-a", 0, 0.02),
        ("mini-b", 0, 0.03),
        ("mini-a", 1, 0.04),
        ("mini-b", 1, 0.05),
    ):
        for seed in range(3):
            base = dict(train=train, draw=draw, seed=seed, test="mini-test", category=MEAN)
            base |= dict(pixel_auroc=0.9, aupro_official=0.8)
            rows.append({**base, "method": "single prompt", "image_auroc": 0.8 + 0.01 * seed})
            rows.append({**base, "method": "CAP", "image_auroc": 0.8 + 0.01 * seed + step})
    results = pd.DataFrame(rows)
    mean, half = study_tables.gain(results, "CAP", "single prompt", "image_auroc", "mini-test")
    assert mean == pytest.approx(0.035)
    assert half == pytest.approx(3.18245 * np.std([2, 3, 4, 5], ddof=1) / 100 / 2, rel=1e-4)


def test_the_tables_beside_the_study_are_its_own():
    results = study_tables.load_study()
    assert (study_tables.RESULTS / "study.md").read_text(encoding="utf-8") == study_tables.document(results)


def test_the_study_has_the_runs_it_promises():
    """Five seeds, three draws, two auxiliary sets."""
    means = study_tables.of(study_tables.load_study(), "mini-test")
    for method in ("single prompt", "CAP", "CAP + DAP, paper", "CAP + DAP, released"):
        own = means[means.method == method]
        assert own.groupby(["train", "draw"]).seed.nunique().tolist() == [5] * 6
