"""What notebooks 7 (meaning), 8 (ablations) and 9 (paper against code) say, by the functions they call."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text

from benchmarks import study as trainings
from benchmarks import study_tables
from data_prep.mini import benchmark, sets
from fap_lib.core import paths
from fap_lib.core.config import load_profile
from fap_lib.core.errors import KitError
from fap_lib.evaluation.scoring import MEAN
from fap_lib.lessons import effects, interpretation, study
from fap_lib.lessons.lesson import Lesson, open_lesson
from fap_lib.lessons.probing import ask, pairs
from fap_lib.model import FAPrompt
from fap_lib.official.ledger import rows
from fap_lib.pictures import evidence
from fap_lib.runs.parameters import LessonRun
from fap_lib.runs.preparation import captions

WORLD = sets.Set(("leather", "metal", "screw"), (), good=8, each=2, train=1)
"""A small part of the notebooks' dataset, drawn anew."""


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAP_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setitem(sets.SETS, "mini-test", WORLD)
        benchmark.generate(paths.dataset("mini-test"), "mini-test")
        return open_lesson(LessonRun(data="mini-test", prompts="paper", device="cpu"))


@pytest.fixture(scope="module")
def features(lesson: Lesson) -> torch.Tensor:
    with torch.no_grad():
        return interpretation.prompt_features(lesson.model.static_text())


# Notebook 7


def test_prompts_are_at_right_angles_and_were_copies_before(lesson, features):
    table = interpretation.cosines(features)
    assert list(table.columns[:2]) == ["normal", "P1"]
    assert pairs(features[1:]).abs().max() < 0.1
    torch.manual_seed(0)
    untrained = FAPrompt(lesson.backbone.text_tower, lesson.model.settings, lesson.backbone.patch_width)
    with torch.no_grad():
        assert pairs(untrained.static_text().abnormal).mean() > 0.8


def test_learned_tokens_are_nearer_to_words_than_random_ones(lesson):
    known = [sentence for _, sentence in captions()]
    abnormal = lesson.model.prompts.abnormal.detach()
    learned = interpretation.nearest_tokens(lesson.backbone, abnormal.flatten(0, 1), known)
    torch.manual_seed(0)
    noise = interpretation.nearest_tokens(lesson.backbone, torch.randn(20, abnormal.shape[-1]), known)
    assert learned.cosine.mean() > noise.cosine.mean() + 0.15
    everything = interpretation.nearest_tokens(lesson.backbone, abnormal[0])
    assert (everything.cosine.to_numpy() >= learned.cosine[:2].to_numpy() - 1e-6).all()


def test_spelled_out_prompts_keep_part_of_their_meaning(lesson, features):
    known = [sentence for _, sentence in captions()]
    abnormal = lesson.model.prompts.abnormal.detach()
    with torch.no_grad():
        same = interpretation.prompt_features(lesson.model.static_text(abnormal))
        assert torch.allclose(same, features, atol=1e-5)
        ids = interpretation.nearest_tokens(lesson.backbone, abnormal.flatten(0, 1), known)["id"].tolist()
        words = lesson.backbone.clip.token_embedding.weight[ids].unflatten(0, abnormal.shape[:2])
        kept = (interpretation.prompt_features(lesson.model.static_text(words)) * features).sum(-1)[1:]
    assert kept.max() > 0.8
    assert kept.min() < 0.4


def test_nearest_captions_are_those_the_text_reads(lesson, features):
    about, sentences = map(list, zip(*captions(), strict=True))
    assert len(sentences) == len(set(sentences)) > 400
    known = interpretation.sentence_features(lesson.backbone, sentences)
    near = interpretation.nearest_sentences(features, sentences, known, count=2)
    nearest = near[near["rank"] == 1].sentence.tolist()
    assert nearest[0] in [
        f"{word} object" for word in ("good", "intact", "normal", "faulty", "flawless")
    ] or ("grainy" in nearest[0])
    assert "splash" in nearest[4]
    assert "dark" in nearest[7]
    assert "black" in nearest[9]
    good, faulty = (features[0] @ known[sentences.index(f"{word} object")] for word in ("good", "faulty"))
    assert abs(float(good - faulty)) < 0.05
    says = interpretation.looks_like(features[1:], known, about, ["burn", "scratch"])
    assert says.shape == (2, 10)
    assert says.loc["burn"].idxmax() == "P9"


def test_prompts_share_what_they_find(lesson):
    found = ask(lesson)
    maps, anomalous = found.maps.numpy(), found.anomalous.numpy()
    answers = interpretation.by_defect(maps, lesson.cache, anomalous)
    assert answers.loc["burn"].min() > 0.8
    parts = interpretation.shares(answers)
    assert sum(parts.values()) == pytest.approx(1)
    assert parts["rows"] > 0.5
    assert parts["columns"] < 0.2
    whole = interpretation.by_defect(found.static.numpy()[:, None], lesson.cache, anomalous)
    assert whole.to_numpy().mean() > 0.75


def by_hand() -> tuple[SimpleNamespace, np.ndarray, np.ndarray]:
    """Two images of a defect and two normal ones, two patches each, two maps."""
    records = [SimpleNamespace(category="c", defect=kind) for kind in ("ink", "ink", "good", "good")]
    maps = np.array([[[9, 0], [1, 0]], [[5, 0], [5, 0]], [[5, 6], [2, 3]], [[7, 8], [4, 5]]], dtype=float)
    anomalous = np.array([[True, False], [True, False], [False, False], [False, False]])
    return SimpleNamespace(records=records), maps, anomalous


def test_patch_auroc_by_defect_by_hand():
    cache, maps, anomalous = by_hand()
    table = interpretation.by_defect(maps, cache, anomalous)
    # Map 1: 9 exceeds all of 5 6 7 8, and 5 ties with one. Map 2: 1 exceeds none of 2 3 4 5.
    assert table.loc["ink"].tolist() == pytest.approx([(4 + 0.5) / 8, (0 + 3.5) / 8])
    assert interpretation.by_defect(maps, cache, anomalous, half=0).loc["ink"].tolist() == [1, 0]


def test_an_interaction_is_what_neither_rows_nor_columns_explain():
    sums = pd.DataFrame(np.add.outer([0.1, 0.5, 0.3], [0.0, 0.2]))
    assert np.allclose(interpretation.interaction(sums), 0)
    assert interpretation.shares(sums)["interaction"] == pytest.approx(0, abs=1e-12)
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(8, 6)))
    assert interpretation.match(table, table, draws=200)[0] == pytest.approx(1)
    assert interpretation.match(table, table, draws=200)[1] < 0.02
    other = pd.DataFrame(random.normal(size=(8, 6)))
    assert interpretation.match(table, other, draws=200)[1] > 0.02


def test_a_plane_holds_the_main_axes():
    points = np.random.default_rng(0).normal(size=(200, 4)) * [5, 3, 0.1, 0.1]
    placed, part = interpretation.plane(points, points)
    assert placed.shape == (200, 2)
    assert part.sum() > 0.99
    assert np.allclose(placed.std(0), points.std(0)[:2], rtol=0.1)


# Notebook 8


def runs(changes: dict[str, list[float]], seeds: int = 2) -> pd.DataFrame:
    """A study of four cells: the full method, and methods with a change of each cell in points."""
    found = []
    for number, (train, draw) in enumerate([("a", 0), ("b", 0), ("a", 1), ("b", 1)]):
        for seed in range(seeds):
            base = 0.8 + 0.01 * number
            wobble = 0.004 * (-1) ** seed
            row = dict(train=train, draw=draw, seed=seed, test="mini-test", category=MEAN)
            values = {study.FULL: base + wobble}
            values |= {
                name: base + points[number] / 100 for name, points in changes.items() if number < len(points)
            }
            found += [
                {**row, "method": name, **dict.fromkeys(study.METRICS, value)}
                for name, value in values.items()
            ]
    return pd.DataFrame(found)


def test_differences_pair_cells_and_pool_their_spread():
    results = runs({"K = 1": [1, 2, 3, 4], "K = 2": [0, 2]})
    found = study.differences(results, ("K = 1", "K = 2", "K = 5"))
    own = found[found.metric == "aupro_official"].set_index("method")
    assert list(own.index) == ["K = 1", "K = 2"]  # the third has no run
    assert own["mean"].tolist() == pytest.approx([2.5, 1])
    assert own.runs.tolist() == [8, 4]
    assert own.half["K = 1"] == pytest.approx(3.18245 * np.std([1, 2, 3, 4], ddof=1) / 2, rel=1e-4)
    error = np.sqrt((5 + 2) / 4)  # squares about the means, 3 + 1 degrees of freedom
    assert own.pooled["K = 2"] == pytest.approx(2.77645 * error / np.sqrt(2), rel=1e-4)
    assert (own.wide > own.pooled).all()
    with pytest.raises(KitError, match="no runs of 'CAPP'; the nearest is"):
        study.differences(results, ("K = 1",), over="CAPP")


def test_the_seeds_of_one_cell_share_no_luck_and_cells_do():
    results = study.load_study()
    luck = study.shared_luck(results, ("CAP", "single prompt", "CAP + DAP, released"))
    assert (luck.seeds < 0.4).all()
    assert (luck.cells > luck.seeds).all()
    spread = study.spread(results, study.FULL)
    assert (spread[["seeds", "draws"]] > 0.5).all(axis=None)


def test_the_parts_pay_on_pixels():
    parts = ("single prompt", "CAP", "CAP + DAP, random patches", "CAP + DAP, released")
    found = study.differences(study.load_study(), parts).set_index(["method", "metric"])
    for method in parts:
        assert found["mean"][method, "pixel_auroc"] < 0
        assert abs(found["mean"][method, "image_auroc"]) < 3
    assert found["mean"]["single prompt", "aupro_official"] < found["mean"]["CAP", "aupro_official"] < -1


def test_sweeps_are_the_studys_and_stay_out_of_the_table_of_methods():
    assert set(study.SWEPT) < set(trainings.LEARNED)
    results = pd.concat([study.load_study(), runs({"K = 1": [1, 2, 3, 4]}).query("method == 'K = 1'")])
    assert "K = 1" not in study_tables.means_table(results, "mini-test")
    some = runs({"K = 1": [1, 2, 3, 4], "no prior loss": [0, 0, 1, 1]})
    assert "| K, abnormality prompts | K = 1 | 8 | +2.5 ±" in study_tables.sweeps_table(some)
    assert "| losses | no prior loss | 8 | +0.5 ±" in study_tables.sweeps_table(some)
    assert study_tables.sweeps_table(runs({})) == ""


def test_the_image_loss_matters_for_pixels():
    found = study.differences(study.load_study(), ("no image cross-entropy",))
    assert found.set_index("metric")["mean"]["aupro_official"] < -2


def test_a_picture_has_a_row_for_each_method_even_without_runs():
    found = study.differences(runs({"K = 1": [1, 2, 3, 4]}), ("K = 1",))
    figure = evidence.differences(found, ["K = 1", "K = 2"])
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["K = 1", "K = 2"]
    evidence.differences(found[found.method == "none"], ["K = 1"])


def test_seeds_of_one_method_do_not_differ_clearly():
    """The control of notebook 8: a change that changes nothing."""
    results = study.load_study()
    other = (results.method == study.FULL) & (results.seed % 2 == 1)
    split = results.assign(method=results.method.mask(other, "odd"))
    found = study.differences(split, ("odd",))
    assert (found["mean"].abs() < found.wide).all()


def test_intervals_and_cells_lie_within_the_axes():
    found = study.differences(study.load_study(), study.SWEPT)
    figure = evidence.differences(found, list(study.SWEPT))
    for axis, metric in zip(figure.axes, study.COMPARED, strict=True):
        own = found[found.metric == metric]
        low, high = axis.get_xlim()
        assert (own["mean"] + own.wide).max() < high
        assert (own["mean"] - own.wide).min() > low
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts][:2] == ["gain", "loss"]
    figure.canvas.draw()
    assert legend.get_window_extent().x0 > 0  # wholly within the figure


def test_names_in_a_plane_do_not_overlap():
    figure, axis = plt.subplots(figsize=(4, 4))
    points = np.array([[0, 0], [0.5, 0.5], [0.5, 0.5], [0.51, 0.5], [0.5, 0.52], [1, 1]])
    evidence.in_plane(axis, {"normal": points}, points, ["P1", "P2", "P3", "P4", "P10"])
    figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in axis.texts]  # without the line to the mark
    assert not [1 for i, one in enumerate(boxes) for other in boxes[:i] if one.overlaps(other)]
    plt.close(figure)


# Notebook 9


def test_the_trainings_that_cost_most_on_pixels_are_the_first_uploads():
    """Notebook 9's words about its table of trainings."""
    found = [
        (effect.points["aupro_official"], effect.change)
        for effect in effects.studied(study.load_study())
        if effect.points["aupro_official"] < -effect.half["aupro_official"]
    ]
    assert [change for _, change in sorted(found)][:2] == [
        "no cross-entropy (first upload)",
        "E' = 1 (first upload)",
    ]


def test_every_row_of_the_ledger_has_an_effect(lesson):
    found = effects.effects(lesson, study.load_study())
    assert [row.id for row in rows()] == list(dict.fromkeys(effect.row for effect in found))
    assert all(effect.points or effect.note for effect in found)
    table = effects.table(found)
    assert len(table) == len(found)

    scored = {effect.row: effect for effect in found if effect.how == "scoring"}
    assert scored["mask-rule"].points["aupro_official"] < -5
    assert scored["mask-rule"].points["image_auroc"] == 0
    assert scored["missing-masks"].points["aupro_official"] < 0
    assert all(abs(value) < 0.1 for value in scored["deep-token-rounding"].points.values())
    assert all(abs(value) < 2 for value in scored["prototype-mean"].points.values())
    assert scored["smoothing"].points["image_auroc"] == 0
    computed = {effect.row: effect.note for effect in found if effect.how == "computed"}
    assert "0.173 (normal) and 0.023" in computed["image-focal-logit"]
    assert computed["auxiliary-split"].startswith("0 anomalous")
    assert "no class token" in computed["class-token-norm"]


def test_studied_rows_are_in_the_study():
    methods = {method for changes in effects.STUDIED.values() for method in changes}
    assert methods <= set(trainings.LEARNED)
    (effect,) = (e for e in effects.studied(study.load_study()) if e.row == "patch-selection")
    assert effect.points["pixel_auroc"] < 0
    assert effect.half["pixel_auroc"] > 0


def test_a_changed_scoring_leaves_the_model_as_it_was(lesson):
    index = np.arange(4)
    before = effects.predict(lesson, index)
    for change in ({"selection": "first"}, {"reverse": True}, {"unit": True}, {"rounded": True}):
        other = effects.predict(lesson, index, **change)
        assert not torch.equal(other.adapted, before.adapted)
        assert torch.equal(effects.predict(lesson, index).adapted, before.adapted)


def test_masks_as_jpeg_and_missing():
    masks = torch.zeros(3, 48, 48, dtype=torch.bool)
    masks[:2, 14:27, 20:37] = True
    read = effects.jpeg_masks(masks)
    assert read[:2].sum() > 1.2 * masks[:2].sum()
    assert not read[2].any()
    assert (effects.jpeg_masks(masks, "half") != masks).float().mean() < 0.01
    assert effects.without_masks(masks, every=2).flatten(1).any(1).tolist() == [False, True, False]


def test_unused_parameters_at_the_papers_sizes():
    assert effects.unused_parameters() == 5_512_192
    assert load_profile("paper").model.deep_layers == 8
