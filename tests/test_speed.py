"""No speed without equality: each optimisation against the plain implementation in the official order."""

import mmap

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks import plain
from benchmarks.measure import peak, relative, reset_peak
from benchmarks.rows import backbone_of
from fap_lib.core.config import ModelSettings, ScoreSettings, TrainSettings
from fap_lib.core.errors import KitError
from fap_lib.data.encoding import decoded, load_pair
from fap_lib.data.features import features
from fap_lib.data.images import load_image
from fap_lib.data.store import read_rows
from fap_lib.evaluation import scoring
from fap_lib.evaluation.metrics import official_thresholds, pixel_metrics
from fap_lib.evaluation.scoring import score
from fap_lib.maps import pixel_maps
from fap_lib.model import FAPrompt
from fap_lib.training import losses


@pytest.fixture(params=["paper", "released"])
def model(request, backbone):
    torch.manual_seed(0)
    return FAPrompt(
        backbone.text_tower, ModelSettings(mode=request.param, deep_layers=2), backbone.patch_width
    )


def pixels(count: int, size: int = 70) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.manual_seed(0))


@pytest.mark.parametrize(
    ("name", "size", "vv_blocks"), [("tiny", 70, 2), ("tiny", 42, 0), ("mini", 96, 0), ("mini", 96, 2)]
)
def test_image_tower(backbone, name, size, vv_blocks):
    """Fused attention, QuickGELU in place, the last block for the class token only, images in a batch."""
    backbone = backbone_of("mini") if name == "mini" else backbone
    given = pixels(3, size)
    before = given.clone()
    found = backbone.image_tower(size, vv_blocks)(given)
    for index in range(3):
        image, tokens = plain.encode_image(backbone.clip, given[index : index + 1], vv_blocks)
        assert relative(found.image[index], image[0]) < 1e-5
        assert relative(found.tokens[index], tokens[0]) < 1e-5
    assert torch.equal(given, before)


def test_text_tower(backbone, model):
    """Sequences end at their end token, share one prefix, and the prompts of all images pass at once."""
    with torch.no_grad():
        static = model.static_text()
        normal, abnormal = plain.text_features(backbone.clip, model)
        assert relative(static.normal, F.normalize(normal[0], dim=-1)) < 1e-5
        assert relative(static.abnormal, abnormal) < 1e-5
        prior = 0.1 * torch.randn(3, model.text_tower.width, generator=torch.manual_seed(1))
        together = model.adapted_text(static.prefix, prior)
        for found, bias in zip(together, prior, strict=True):
            assert relative(found, plain.text_features(backbone.clip, model, bias)[1]) < 1e-5


def test_image_score_and_map(backbone, model):
    """Static prompts once, images in a batch, resizing and smoothing in one matrix."""
    given = pixels(3)
    with torch.no_grad():
        raw = backbone.image_tower(70, 2)(given)
        image, patches = F.normalize(raw.image, dim=-1), F.normalize(raw.tokens[:, 1:], dim=-1)
        prediction = model(image, patches, model.static_text())
        maps = pixel_maps(prediction.patch_map, 70, 4.0)
    for index in range(3):
        expected, expected_map = plain.score_image(backbone.clip, model, given[index : index + 1], 2, 4.0)
        assert float(prediction.score[index]) == pytest.approx(expected, rel=1e-5)
        assert relative(maps[index], expected_map) < 1e-5


def test_steps_of_the_story_keep_the_values(backbone, model):
    expected = plain.score_image(backbone.clip, model, pixels(1), 2, 4.0)
    for attend, context in ((plain.fused, plain.CONTEXT), (plain.fused, None), (plain.explicit, 20)):
        found = plain.score_image(backbone.clip, model, pixels(1), 2, 4.0, attend, context)
        assert found[0] == pytest.approx(expected[0], rel=1e-5)
        assert relative(found[1], expected[1]) < 1e-5


def test_training_loss_and_gradients(backbone, model):
    """From features, with one text pass for the batch, the normal class left implicit."""
    given, label, settings = pixels(4), torch.tensor([0, 1, 0, 1]), TrainSettings()
    mask = torch.zeros(4, 70, 70)
    mask[1::2, 10:30, 20:50] = 1
    raw = backbone.image_tower(70, 2)(given)
    image, patches = F.normalize(raw.image, dim=-1), F.normalize(raw.tokens[:, 1:], dim=-1)
    static = model.static_text()
    total = losses(model(image, patches, static), static, label, mask, settings)["total"]
    parameters = list(model.parameters())
    found = torch.autograd.grad(total, parameters)
    expected = plain.training_loss(backbone.clip, model, given, label, mask, 2, settings)
    assert relative(total, expected) < 1e-5
    for ours, theirs in zip(found, torch.autograd.grad(expected, parameters), strict=True):
        assert relative(ours, theirs) < 1e-4


@pytest.mark.parametrize("low", [0.0, 0.5, -3.0])
def test_metrics(low):
    """Two passes over bins, and a search for the threshold only where a bin holds one. With a narrow range
    far from zero, one of the official thresholds lies above all scores."""
    random = np.random.default_rng(0)
    masks = np.zeros((4, 40, 40), dtype=bool)
    masks[1:, 5:15, 5:15] = masks[2:, 20:22, 30:39] = True
    maps = (low + 1e-3 * (random.random(masks.shape) + masks * random.random(masks.shape))).astype(np.float32)
    if low == -3.0:
        assert official_thresholds(maps.min(), maps.max())[-1] > maps.max()
    parts = [torch.from_numpy(each).split(3) for each in (maps, masks)]
    found = {metric.name: metric for metric in pixel_metrics(lambda: zip(*parts, strict=True))}
    assert found["aupro_official"].value == pytest.approx(plain.aupro(masks, maps), abs=1e-12)
    assert found["aupro_exact"].value == pytest.approx(plain.aupro_exact(masks, maps), abs=1e-5)
    for name, expected in zip(("auroc", "ap"), plain.ranking(masks, maps), strict=True):
        assert found[name].value == pytest.approx(expected, abs=1e-5)


def test_threads_decode_what_one_thread_decodes(dataset, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    records = dataset.records("test")
    chunks = [[3, 1], [0], [2, 5, 4], [15]]
    state = torch.get_rng_state()
    found = list(decoded(dataset, records, 70, chunks))
    assert [len(pairs) for pairs in found] == [2, 1, 3, 1]
    for chunk, pairs in zip(chunks, found, strict=True):
        for index, (image, mask) in zip(chunk, pairs, strict=True):
            expected_image, expected_mask = load_pair(dataset, records[index], 70)
            assert np.array_equal(image, expected_image)
            assert np.array_equal(mask, expected_mask)
    assert torch.equal(torch.get_rng_state(), state)  # extracting features must not change a training


def test_an_error_in_a_thread_is_one_sentence(dataset, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    (dataset.root / dataset.records("test")[2].image).write_bytes(b"no image")
    with pytest.raises(KitError) as caught:
        list(decoded(dataset, dataset.records("test"), 70, [[0], [1], [2], [3]]))
    assert str(caught.value).count("\n") == 0
    assert "is not an image the kit can read" in str(caught.value)


def test_resizing_is_pils_bicubic(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png")
    expected = np.asarray(image.resize((70, 70), Image.Resampling.BICUBIC))
    assert np.array_equal(load_image(tmp_path / "a.png", 70), expected)


def test_reading_a_cache_does_not_keep_its_pages(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2000, 50_000), np.float16))  # 200 MB
    array = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert isinstance(array.base, mmap.mmap)
    before = reset_peak()
    for start in range(0, 2000, 20):
        rows = read_rows(array, np.arange(start, start + 20))
        assert rows.flags.owndata or rows.base is not array.base
        assert rows.sum(dtype=np.float64) == 20 * 50_000
    assert peak() - before < 30e6


def test_no_step_holds_all_maps(dataset, backbone, model, small, tmp_path, monkeypatch):
    held = []
    original = scoring.Scores.maps

    def maps(self, index, sigma):
        held.append(len(index))
        return original(self, index, sigma)

    monkeypatch.setattr(scoring.Scores, "maps", maps)
    settings = ScoreSettings(sigma=2.0, batch_size=3)
    scored = score(model, features(dataset, "test", backbone, small), settings, tmp_path / "patches.npy")
    assert held == []
    scoring.evaluate(scored, settings)
    assert max(held) == 3
    assert sum(held) == 2 * len(dataset.records("test"))  # two passes
