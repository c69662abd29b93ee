"""Scores become figures: which images count, in which category, and what the mean is a mean of."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score

from fap_lib.core.config import ModelSettings, ScoreSettings
from fap_lib.core.errors import KitError
from fap_lib.data.features import features
from fap_lib.data.manifest import Record
from fap_lib.evaluation.scoring import MEAN, Scores, evaluate, score, score_with
from fap_lib.model import FAPrompt

SIZE, GRID = 24, 4
SHARP = ScoreSettings(sigma=0.0, batch_size=3)


@dataclass
class Images:
    """What scoring reads of a cache; masks are rectangles that differ from image to image."""

    records: list[Record]
    name: str = "drawn"
    image_size: int = SIZE
    patches: np.ndarray = field(default_factory=lambda: np.zeros((0, GRID**2, 8)))

    def __len__(self) -> int:
        return len(self.records)

    def masks(self, index: np.ndarray) -> torch.Tensor:
        masks = torch.zeros(len(index), SIZE, SIZE, dtype=torch.bool)
        for mask, place in zip(masks, index, strict=True):
            if self.records[place].mask:
                mask[place % 8 : place % 8 + 9, 5:14] = True
        return masks


def record(category: str, label: int | None, mask: bool = True) -> Record:
    return Record("x.png", "m.png" if mask and label else None, category, "any", label)


def drawn(records: list[Record], seed: int = 0) -> Scores:
    """Random scores; each image's patches are a little brighter where it is anomalous."""
    random, count = np.random.default_rng(seed), len(records)
    patches = random.random((count, 2, GRID**2)).astype(np.float32)
    image, probability = random.random((2, count)).astype(np.float32)
    return Scores(Images(records), image, probability, patches)


TWO = [record(category, label) for label in (0, 1, 1, 0, 0, 1) for category in ("nut", "cap", "nut")]
"""Two categories whose images alternate, so that a row taken for its neighbour is another category's."""


def value(rows: list[dict], category: str, level: str, metric: str) -> float | None:
    (found,) = [r for r in rows if (r["category"], r["level"], r["metric"]) == (category, level, metric)]
    return found["value"]


def test_a_map_is_the_mean_of_both_resized_and_smoothed():
    scores = drawn(TWO)
    index = np.array([4, 1])
    both = torch.from_numpy(scores.patches[index].mean(1)).unflatten(-1, (GRID, GRID))
    resized = F.interpolate(both[:, None], (SIZE, SIZE), mode="bilinear")[:, 0]
    for found, sharp in zip(scores.maps(index, 2.5), resized, strict=True):
        assert np.allclose(found, gaussian_filter(sharp.numpy(), 2.5), atol=1e-6)
    assert torch.allclose(scores.maps(index, 0.0), resized, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 3.0])
def test_every_figure_is_of_its_categorys_own_images(sigma):
    scores = drawn(TWO)
    rows = evaluate(scores, ScoreSettings(sigma=sigma, batch_size=4))
    for category in ("nut", "cap"):
        index = np.array([i for i, each in enumerate(TWO) if each.category == category])
        labels = [TWO[i].label for i in index]
        assert value(rows, category, "image", "auroc") == pytest.approx(
            roc_auc_score(labels, scores.image[index])
        )
        pixels, maps = scores.cache.masks(index).numpy().ravel(), scores.maps(index, sigma).numpy().ravel()
        for name, expected in (("auroc", roc_auc_score), ("ap", average_precision_score)):
            assert value(rows, category, "pixel", name) == pytest.approx(expected(pixels, maps), abs=1e-4)


def test_the_mean_is_over_categories_and_counts_all_images():
    rows = evaluate(drawn(TWO), SHARP)
    assert {r["images"] for r in rows if r["category"] == "nut"} == {12}
    assert {r["images"] for r in rows if r["category"] == "cap"} == {6}
    means = [r for r in rows if r["category"] == MEAN]
    assert {r["images"] for r in means} == {18}
    assert len(means) == len(rows) / 3 == 8
    for mean in means:
        parts = [r for r in rows if (r["level"], r["metric"]) == (mean["level"], mean["metric"])][:2]
        assert [part["category"] for part in parts] == ["nut", "cap"]
        assert mean["value"] == pytest.approx((parts[0]["value"] + parts[1]["value"]) / 2)
        assert mean["error"] == pytest.approx((parts[0]["error"] + parts[1]["error"]) / 2)
        assert mean["definition"] == parts[0]["definition"]
        assert mean["reason"] == ""


def test_where_one_category_is_undefined_the_mean_is_and_says_for_which():
    normal = [record(name, 0) for name in ("ring", "ring", "wire", "wire")]
    rows = evaluate(drawn([*TWO, *normal]), SHARP)
    assert value(rows, "nut", "image", "auroc") is not None
    means = [r for r in rows if r["category"] == MEAN]
    assert {r["value"] for r in means} == {None}
    assert {r["error"] for r in means} == {0.0}
    assert {r["reason"] for r in means} == {
        "undefined for ring: all images are normal",
        "undefined for ring: all pixels are normal",
    }


def test_an_image_without_label_has_a_score_and_no_part_in_a_figure():
    """It is neither normal nor anomalous: image figures leave it out, pixel figures are undefined."""
    mixed = [record("nut", label) for label in (0, None, 1, 1, None, 0, 1, 0)]
    scores = drawn(mixed)
    rows = evaluate(scores, SHARP)
    known = [i for i, each in enumerate(mixed) if each.label is not None]
    expected = roc_auc_score([mixed[i].label for i in known], scores.image[known])
    assert value(rows, "nut", "image", "auroc") == pytest.approx(expected)
    pixel = [r for r in rows if r["level"] == "pixel" and r["category"] == "nut"]
    assert {r["value"] for r in pixel} == {None}
    assert {r["reason"] for r in pixel} == {"2 of 8 images are not normal and have no mask"}


def test_an_anomalous_image_without_mask_is_not_taken_for_free_of_anomalous_pixels():
    rows = evaluate(drawn([*TWO, record("cap", 1, mask=False)]), SHARP)
    assert value(rows, "cap", "image", "auroc") is not None
    assert value(rows, "cap", "pixel", "auroc") is None
    assert value(rows, "nut", "pixel", "auroc") is not None
    (mean,) = [r for r in rows if (r["category"], r["metric"]) == (MEAN, "aupro_exact")]
    assert mean["reason"] == "undefined for cap: 1 of 7 images are not normal and have no mask"


def test_scoring_keeps_what_the_model_says_of_each_image(dataset, backbone, small, tmp_path):
    torch.manual_seed(0)
    model = FAPrompt(backbone.text_tower, ModelSettings(deep_layers=2), backbone.patch_width).eval()
    cache = features(dataset, "test", backbone, small)
    scores = score(model, cache, ScoreSettings(batch_size=5), tmp_path / "patches.npy")
    with torch.no_grad():
        whole = model(*cache.features(np.arange(16)))
    assert np.allclose(scores.image, whole.score, atol=1e-6)
    assert np.allclose(scores.probability, whole.image_probability, atol=1e-6)
    assert np.allclose(scores.patches[:, 0], whole.static[..., 1], atol=1e-6)
    assert np.allclose(scores.patches[:, 1], whole.adapted[..., 1], atol=1e-6)
    assert np.array_equal(np.load(tmp_path / "patches.npy"), scores.patches)


def test_gpu_out_of_memory_suggests_a_batch(tmp_path):
    def full(_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    cache = Images(TWO, patches=np.zeros((len(TWO), GRID**2, 8)))
    with pytest.raises(KitError, match="score 6 images at once; set batch_size to 3"):
        score_with(full, cache, ScoreSettings(batch_size=6), tmp_path / "patches.npy")
    assert not (tmp_path / "patches.npy").exists()
