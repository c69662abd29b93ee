"""Behind notebook 12: what a figure depends on, computed by hand where a hand can."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fap_lib.evaluation.metrics import pixel_metrics
from fap_lib.lessons import dependence, study
from fap_lib.lessons.lesson import Lesson
from fap_lib.maps import smooth
from fap_lib.pictures import evidence

GROUPS = {"a": np.arange(0, 30), "b": np.arange(30, 60)}


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    """Scores (3, 60), rounded so that some tie, and labels."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat([0, 1], 30))
    return (random.random((3, 60)) + 0.2 * labels).round(1), labels


@pytest.fixture
def maps() -> tuple[torch.Tensor, torch.Tensor]:
    """Maps and masks (6, 24, 24); every second image is normal."""
    masks = torch.zeros(6, 24, 24, dtype=torch.bool)
    masks[::2, 4:9, 5:12] = True
    masks[2, 20:22, 1:3] = True
    noise = torch.rand(6, 24, 24, generator=torch.Generator().manual_seed(1))
    return 0.6 * noise + 0.3 * masks, masks


def test_ranks_count_pairs(scored):
    scores, labels = scored
    wanted = [roc_auc_score(labels, row) for row in scores]
    assert dependence.aurocs(scores, labels) == pytest.approx(wanted)
    both = [[roc_auc_score(labels[own], row[own]) for own in GROUPS.values()] for row in scores]
    assert dependence.macro(scores, labels, GROUPS) == pytest.approx(np.mean(both, axis=1))


def test_micro_and_macro_differ_where_categories_have_other_levels():
    labels = np.array([0, 1, 0, 1])
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    groups = {"low": np.array([0, 1]), "high": np.array([2, 3])}
    assert dependence.macro(scores, labels, groups) == 1
    assert dependence.aurocs(scores, labels) == 0.75


def test_a_batch_of_one_is_smoothed_as_an_image(maps):
    alone = dependence.smoothed_in_batches(maps[0], 1.5, 1)
    assert torch.allclose(alone, smooth(maps[0], 1.5), atol=1e-5)
    # In a batch of four a normal image takes over a part of its neighbours' defects, and more of them.
    batch = dependence.smoothed_in_batches(maps[0], 4.0, 4)
    alone = dependence.smoothed_in_batches(maps[0], 4.0, 1)
    assert batch[:4].std(dim=0).mean() < 0.5 * alone[:4].std(dim=0).mean()


def test_200_thresholds_are_the_official_aupro(maps):
    official = {m.name: m.value for m in pixel_metrics(partial(iter, [maps]))}
    assert dependence.aupro_by_steps(*maps, 200) == pytest.approx(official["aupro_official"], abs=1e-4)
    many = dependence.aupro_by_steps(*maps, 20_000)
    assert many == pytest.approx(official["aupro_exact"], abs=2e-3)
    assert np.isnan(dependence.aupro_by_steps(torch.full_like(maps[0], 0.5), maps[1], 5))


def test_pixel_figures_are_means_over_categories(maps):
    cache = SimpleNamespace(records=[SimpleNamespace(category="ab"[place // 2 % 2]) for place in range(6)])
    index = np.arange(6)
    assert {name: own.tolist() for name, own in dependence.categories(cache, index).items()} == {
        "a": [0, 1, 4, 5],
        "b": [2, 3],
    }
    found = dependence.pixel_figures(cache, index, *maps)
    each = [
        {m.name: m.value for m in pixel_metrics(partial(iter, [(maps[0][own], maps[1][own])]))}
        for own in ([0, 1, 4, 5], [2, 3])
    ]
    assert found["auroc"] == pytest.approx(np.mean([one["auroc"] for one in each]))


def test_shuffled_labels_leave_nothing_to_find(scored):
    _, labels = scored
    dealt = dependence.shuffled(labels, GROUPS, draws=200)
    for own in GROUPS.values():
        assert (dealt[:, own].sum(1) == labels[own].sum()).all()
    figures = np.array([dependence.macro(labels + 0.0, row, GROUPS) for row in dealt])
    assert figures.mean() == pytest.approx(0.5, abs=0.03)


def test_the_best_of_many_lies_above_their_mean():
    figures = np.array([[0.5, 0.9, 0.6], [0.7, 0.5, 0.8]])
    assert dependence.gain_by_choice(figures) == pytest.approx(0.9 - 0.7)


def test_scores_after_each_epoch(dataset, backbone, small, profile):
    from fap_lib.data.features import features

    cache = features(dataset, "test", backbone, small)
    lesson = Lesson(profile, "cpu", backbone, dataset, cache, None, {}, small)
    index = np.arange(0, len(cache), 2)
    scores = dependence.scores_by_epoch(lesson, cache, index, epochs=2, seeds=2)
    assert scores.shape == (2, 2, len(index))
    assert 0 <= scores.min() <= scores.max() <= 1
    assert not np.array_equal(scores[0], scores[1])
    again = dependence.scores_by_epoch(lesson, cache, index, epochs=2, seeds=1)
    assert np.allclose(again[0], scores[0], atol=1e-6)


def test_one_prompt_is_as_good_as_ten_within_its_interval():
    """What the notebook says of K = 1."""
    found = study.differences(study.load_study(), ("K = 1",))
    assert (found["mean"].abs() < found.half).all()


def test_a_picture_of_moves_has_a_row_for_each_choice():
    moves = {"one choice": {"image AUROC": 1.0}, "another": {"image AUROC": -2.0, "AUPRO": -0.03}}
    figure = evidence.moves(moves, {"image AUROC": 0.9, "AUPRO": 7.4}, "the method")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(moves)
    assert [axis.get_title() for axis in figure.axes] == ["image AUROC", "AUPRO"]
    assert all(axis.get_xlim()[1] > 0 for axis in figure.axes)
    assert [[text.get_text() for text in axis.texts] for axis in figure.axes] == [["+1.0", "-2.0"], ["0.0"]]
