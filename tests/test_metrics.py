"""Metrics against scikit-learn and against their definitions written out plainly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage import measure
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from benchmarks import plain
from fap_lib.evaluation import metrics
from fap_lib.evaluation.metrics import FPR_LIMIT, image_metrics, pixel_metrics, region_weights


def plain_exact_aupro(masks: np.ndarray, maps: np.ndarray) -> float:
    """All distinct values as thresholds, linear between them, up to a false positive rate of 0.3."""
    regions = [(i, r.coords) for i, m in enumerate(masks) for r in measure.regionprops(measure.label(m))]
    pros, fprs = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        above = maps >= threshold
        pros.append(np.mean([above[i][tuple(coords.T)].mean() for i, coords in regions]))
        fprs.append((above & ~masks).sum() / (~masks).sum())
    grid = np.unique(np.r_[[f for f in fprs if f < 0.3], 0.3])
    curve = [(f, p) for f, p in zip(fprs, pros, strict=True) if f <= 0.3]
    end = np.interp(0.3, fprs, pros)
    x, y = np.array([*curve, (0.3, end)]).T
    assert grid[-1] == 0.3
    return float(np.trapezoid(y, x)) / 0.3


def passes(maps: np.ndarray, masks: np.ndarray, batch: int = 2):
    def start():
        for i in range(0, len(maps), batch):
            yield torch.from_numpy(maps[i : i + batch]), torch.from_numpy(masks[i : i + batch])

    return start


def computed(maps: np.ndarray, masks: np.ndarray, batch: int = 2) -> dict:
    return {metric.name: metric for metric in pixel_metrics(passes(maps, masks, batch))}


def scene(seed: int, count: int = 4, size: int = 64, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps that find some of the regions."""
    random = np.random.default_rng(seed)
    fields = [gaussian_filter(random.standard_normal((size, size)), 6) for _ in range(count)]
    masks = np.stack([field > 0.06 for field in fields])
    masks[0] = False
    noise = [gaussian_filter(random.standard_normal((size, size)), 2) for _ in range(count)]
    maps = np.stack([3 * m * random.random() + spread * n for m, n in zip(masks, noise, strict=True)])
    return (1 / (1 + np.exp(-maps))).astype(np.float32), masks


@given(st.floats(-1, 1, width=32), st.floats(2**-12, 1, width=32))
def test_a_float32_exceeds_a_threshold_where_it_exceeds_the_official_float64(low, span):
    low, high = np.float32(low), np.float32(low + span)
    exact = np.arange(low, high, (high - low) / metrics.OFFICIAL_STEPS)
    near = exact.astype(np.float32)
    for scores in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))):
        assert np.array_equal(scores > metrics.official_thresholds(low, high), scores > exact)


@pytest.mark.parametrize("seed", range(3))
def test_ranking_metrics_equal_scikit_learns(seed):
    maps, masks = scene(seed)
    found = computed(maps, masks)
    truth, score = masks.ravel(), maps.ravel()
    precision, recall, _ = precision_recall_curve(truth, score)
    expected = {
        "auroc": roc_auc_score(truth, score),
        "ap": average_precision_score(truth, score),
        "f1_max": np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-5)
        assert abs(found[name].value - value) <= found[name].error + 1e-9
        assert found[name].error <= 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_aupro_equals_both_definitions(seed):
    maps, masks = scene(seed)
    found = computed(maps, masks)
    assert found["aupro_official"].value == pytest.approx(plain.aupro(masks, maps), abs=1e-12)
    exact = plain_exact_aupro(masks, maps)
    assert found["aupro_exact"].value == pytest.approx(exact, abs=1e-5)
    assert abs(found["aupro_exact"].value - exact) <= found["aupro_exact"].error + 1e-9
    assert "official" in found["aupro_official"].definition
    assert "exact" in found["aupro_exact"].definition


def test_official_aupro_at_the_papers_size():
    """At 518 pixels enough scores lie near a threshold for its rounding to show."""
    random = np.random.default_rng(0)
    fields = [gaussian_filter(random.standard_normal((518, 518)), 20) for _ in range(3)]
    masks = np.stack([field > 0.03 for field in fields])
    noise = [gaussian_filter(random.standard_normal((518, 518)), 10) for _ in range(3)]
    maps = np.stack([2 * m + 30 * n for m, n in zip(masks, noise, strict=True)])
    maps = (1 / (1 + np.exp(-maps))).astype(np.float32)
    found = computed(maps, masks)["aupro_official"].value
    assert found == pytest.approx(plain.aupro(masks, maps), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_scores_with_any_ties(data):
    """Few distinct values, huge and tiny ones, negative ones: the bound always holds."""
    values = data.draw(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=6).map(lambda v: np.float32(v))
    )
    picks = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=32, max_size=32))
    truth = np.array(data.draw(st.lists(st.booleans(), min_size=32, max_size=32)))
    maps, masks = values[picks].reshape(2, 4, 4), truth.reshape(2, 4, 4)
    found = computed(maps, masks, batch=1)
    if truth.all() or not truth.any():
        assert all(metric.value is None and metric.reason for metric in found.values())
        return
    score = maps.ravel()
    for name, value in (
        ("auroc", roc_auc_score(truth, score)),
        ("ap", average_precision_score(truth, score)),
        ("aupro_exact", plain_exact_aupro(masks, maps)),
    ):
        assert abs(found[name].value - value) <= found[name].error + 1e-9
    if found["aupro_official"].value is not None:
        assert found["aupro_official"].value == pytest.approx(plain.aupro(masks, maps), abs=1e-9)


def ordered(first: str, masks: np.ndarray) -> np.ndarray:
    """Scores of which all lie in one coarse bin and each is another float; `first` is ranked highest."""
    place = np.argsort(np.argsort(masks.ravel() if first == "anomalous" else ~masks.ravel(), kind="stable"))
    return (0.5 + place * 2.0**-23).astype(np.float32).reshape(masks.shape)


@pytest.mark.parametrize("first", ["anomalous", "normal"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_bounds_hold_where_all_pixels_share_a_bin_and_are_no_wider(monkeypatch, first, share):
    """Bins as coarse as can be, in the two orders that cost the most."""
    monkeypatch.setattr(metrics, "_FINE_TOTAL", 1)
    masks = (np.arange(400) < 400 * share).reshape(1, 20, 20)
    maps = ordered(first, masks)
    found = computed(maps, masks)
    precision, recall, _ = precision_recall_curve(masks.ravel(), maps.ravel())
    exact = {
        "auroc": roc_auc_score(masks.ravel(), maps.ravel()),
        "ap": average_precision_score(masks.ravel(), maps.ravel()),
        "f1_max": (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max(),
        "aupro_exact": plain_exact_aupro(masks, maps),
    }
    for name, value in exact.items():
        off = abs(found[name].value - value)
        assert off <= found[name].error + 1e-9, name
    assert found["auroc"].error == pytest.approx(0.5)
    assert abs(found["auroc"].value - exact["auroc"]) == pytest.approx(0.5)
    worst = 1 / (1 + (~masks).sum())  # precision at the first anomalous pixel, behind all normal ones
    assert found["ap"].error == pytest.approx(max(1 - share, share - worst))
    if first == "anomalous":
        assert found["f1_max"].error == pytest.approx(1 - found["f1_max"].value)


def test_bins_of_one_float_cost_nothing():
    maps, masks = scene(8)
    narrow = (0.5 + 1e-4 * maps).astype(np.float32)
    for metric in computed(narrow, masks).values():
        assert metric.error == 0, metric.name


def test_the_area_ends_at_the_limit():
    """Also where the curve climbs exactly there, has its last point before, or only one point after."""
    half = FPR_LIMIT / 2
    for fpr, pro, area in (
        ([0, half, FPR_LIMIT, FPR_LIMIT, 1], [0, 0.4, 0.4, 0.9, 1], half * 0.2 + half * 0.4),
        ([0, 0, 1], [0, 1, 1], FPR_LIMIT),
        ([0, 2 * FPR_LIMIT, 1], [0, 1, 1], FPR_LIMIT * 0.25),
    ):
        assert metrics._area(np.array(fpr), np.array(pro)) == pytest.approx(area)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_batches_do_not_matter(seed, batch):
    maps, masks = scene(seed, size=24)
    if not masks.any():
        return
    one, other = computed(maps, masks, batch=4), computed(maps, masks, batch)
    assert [m.value for m in one.values()] == pytest.approx([m.value for m in other.values()], abs=1e-12)


def test_a_narrow_range_of_scores_is_ranked_as_finely():
    maps, masks = scene(5)
    narrow = (0.5 + 1e-4 * maps).astype(np.float32)
    found = computed(narrow, masks)
    assert found["auroc"].value == pytest.approx(roc_auc_score(masks.ravel(), narrow.ravel()), abs=1e-9)
    assert found["auroc"].error == 0  # every bin is a single float


def test_order_is_all_that_counts_for_ranking():
    maps, masks = scene(6)
    one, other = computed(maps, masks), computed((2 * maps).astype(np.float32), masks)
    assert one["auroc"].value == pytest.approx(other["auroc"].value, abs=1e-12)


def test_what_cannot_be_computed_says_why():
    maps, masks = scene(7)
    for found, reason in (
        (computed(maps, np.zeros_like(masks)), "all pixels are normal"),
        (computed(maps, np.ones_like(masks)), "all pixels are anomalous"),
    ):
        assert len(found) == 5
        assert {metric.value for metric in found.values()} == {None}
        assert {metric.reason for metric in found.values()} == {reason}
    least = np.float32(1e-45)
    for span in (least, 99 * least):  # a 200th of it is 0
        found = computed(np.where(masks, span, np.float32(0)).astype(np.float32), masks)
        assert found["auroc"].value == 1
        assert found["aupro_official"].value is None
    constant = computed(np.full_like(maps, 0.5), masks)
    assert constant["auroc"].value == pytest.approx(0.5)
    assert constant["aupro_official"].value is None
    assert "same score" in constant["aupro_official"].reason


def test_regions_touch_at_corners():
    mask = np.zeros((1, 4, 4), dtype=bool)
    mask[0, 0, 0] = mask[0, 1, 1] = mask[0, 3, 3] = True
    weights, regions = region_weights(torch.from_numpy(mask))
    assert regions == 2
    assert weights.tolist() == [0.5, 0.5, 1.0]


def test_image_metrics_equal_scikit_learns():
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 2, 50), random.random(50).astype(np.float32)
    found = {metric.name: metric.value for metric in image_metrics(labels, scores)}
    f1 = [
        2 * (labels & (scores >= t)).sum() / (labels.sum() + (scores >= t).sum()) for t in np.unique(scores)
    ]
    assert found == pytest.approx(
        {
            "auroc": roc_auc_score(labels, scores),
            "ap": average_precision_score(labels, scores),
            "f1_max": max(f1),
        }
    )


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0, 0], "all images are normal"),
        ([1, 1], "all images are anomalous"),
        ([], "no image has a label"),
    ],
)
def test_image_metrics_of_one_class_are_undefined(labels, reason):
    found = image_metrics(np.array(labels), np.full(len(labels), 0.1))
    assert [metric.value for metric in found] == [None] * 3
    assert {metric.reason for metric in found} == {reason}
