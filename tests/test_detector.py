"""`Detector`: the notebooks' numbers from anything that is an image; a sentence for what is none."""

import itertools
import json
import shutil
import tracemalloc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from fap_lib import Detector
from fap_lib.checkpoints import save_prompts
from fap_lib.clip import mini
from fap_lib.clip.backbone import TINY, Backbone, load_backbone
from fap_lib.core.config import FeatureSettings, ModelSettings, ScoreSettings, load_profile, profile_of
from fap_lib.core.errors import KitError
from fap_lib.data.features import features
from fap_lib.data.manifest import Manifest
from fap_lib.evaluation.scoring import score
from fap_lib.inference.detector import KEPT
from fap_lib.model import FAPrompt
from fap_lib.official.checkpoint import OFFICIAL_NAMES, official_name


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory, backbone: Backbone) -> Path:
    """Random prompts of the tiny CLIP."""
    torch.manual_seed(3)
    model = FAPrompt(backbone.text_tower, ModelSettings(deep_layers=2), backbone.patch_width)
    path = tmp_path_factory.mktemp("prompts") / "prompts.safetensors"
    settings = FeatureSettings(backbone=TINY, image_size=70, vv_blocks=2)
    save_prompts(path, model, backbone, settings, {"dataset": "toy"})
    return path


@pytest.fixture(scope="module")
def detector(prompts: Path) -> Detector:
    return Detector.load(prompts)


def files(manifest: Manifest) -> list[Path]:
    return [manifest.root / record.image for record in manifest.records("test")]


def pictures(count: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    for _ in range(count):
        yield random.integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_scores_and_maps_are_the_notebooks(detector, backbone, dataset, tmp_path):
    cache = features(dataset, "test", backbone, detector.features)
    scores = score(detector.model, cache, ScoreSettings(), tmp_path / "maps.npy")
    results = list(detector.predict(files(dataset)))
    np.testing.assert_allclose([result.score for result in results], scores.image, atol=1e-6)
    np.testing.assert_allclose([result.probability for result in results], scores.probability, atol=1e-6)
    maps = scores.maps(np.arange(len(cache)), detector.sigma).numpy()
    for result, expected in zip(results, maps, strict=True):
        own = np.asarray(Image.fromarray(expected).resize((98, 98), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(result.map, own, atol=1e-6)
        assert result.map.dtype == np.float32
        assert 0 < result.map.min() < result.map.max() < 1


def test_path_image_and_array_are_one(detector, dataset):
    path = files(dataset)[1]
    image = Image.open(path)
    array = np.asarray(image)
    for given in (path, str(path), image, array):
        result = detector.predict(given)
        assert result.score == detector.predict(path).score
        assert result.map.shape == (98, 98)
    assert result.image == "image 0"
    assert [each.score for each in detector.predict(array[None])] == [result.score]
    grey = Image.fromarray(array[:49, :, 0])
    assert detector.predict(grey).map.shape == (49, 98)
    assert detector.predict(np.asarray(grey)).score == detector.predict(grey).score


def test_an_iterable_is_read_as_results_are_asked_for(detector):
    taken = []

    def endless() -> Iterator[np.ndarray]:
        for number, picture in enumerate(itertools.cycle(pictures(5))):
            taken.append(number)
            yield picture

    results = detector.predict(endless())
    assert not taken
    first = list(itertools.islice(results, 3))
    assert [result.index for result in first] == [0, 1, 2]
    assert len(taken) <= 3 * detector.batch_size + 1


def test_a_reused_frame_is_copied(detector):
    frame = np.zeros((40, 60, 3), np.uint8)

    def camera() -> Iterator[np.ndarray]:
        for picture in pictures(20):
            frame[:] = picture
            yield frame

    expected = [result.score for result in detector.predict(pictures(20))]
    assert [result.score for result in detector.predict(camera())] == expected


def test_batches_do_not_change_a_result(detector):
    together = [result.score for result in detector.predict(pictures(11))]
    alone = [detector.predict(picture).score for picture in pictures(11)]
    np.testing.assert_allclose(together, alone, atol=1e-5)  # a feature may be rounded to the next half float


def test_threads_share_a_detector(detector):
    images = list(pictures(6))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda image: detector.predict(image).score, images * 3))
    assert found == [detector.predict(image).score for image in images] * 3


def test_memory_does_not_grow_with_the_number_of_images(detector):
    """What is alive after many images is what was alive after few (100,000: `benchmarks/memory.py`)."""
    frame = np.zeros((300, 300, 3), np.uint8)
    seen: list[weakref.ref] = []
    tracemalloc.start()
    try:
        for result in detector.predict(frame for _ in range(200)):
            assert result.map.shape == (300, 300)
            seen.append(weakref.ref(result))
            if len(seen) == 60:
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(ref() is not None for ref in seen) <= 1
    assert peak - before < 10e6  # 140 images of 0.27 MB and as many maps of 0.36 MB were seen meanwhile


def test_bad_images_stop_or_are_counted(detector, dataset, tmp_path):
    good = files(dataset)[:3]
    broken = tmp_path / "broken.png"
    broken.write_bytes(good[0].read_bytes()[:300])
    mixed = [good[0], broken, good[1], tmp_path / "absent.png", np.zeros((4, 4), float), good[2]]

    results = detector.predict(mixed)
    assert next(results).index == 0
    with pytest.raises(KitError, match=r"broken\.png cannot be decoded"):
        next(results)

    results = detector.predict(mixed, errors="skip")
    assert [result.index for result in results] == [0, 2, 5]
    assert [any(name in said for name in ("broken.png", "absent.png", "image 4")) for said in results.skipped]
    assert len(results.skipped) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 4, 3)), r"image 0 is an array \(4, 4, 3\) of float64; give RGB"),
        (np.zeros((4, 0, 3), np.uint8), r"array \(4, 0, 3\) of uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"array \(4, 4, 4\) of uint8"),
        (7, "image 0 is of the type int; give"),
        (b"jpeg", "image 0 is of the type int"),
    ],
)
def test_what_is_no_image_is_said(detector, given, message):
    with pytest.raises(KitError, match=message):
        list(detector.predict(given))


def test_an_unknown_way_with_errors(detector):
    with pytest.raises(KitError, match="errors = 'ignore' is unknown"):
        detector.predict([], errors="ignore")
    assert list(detector.predict([])) == []


def test_a_threshold_travels_with_the_prompts(prompts, tmp_path):
    detector = Detector.load(prompts)
    before = detector.predict(next(pictures(1)))
    assert before.flagged is None
    assert before.mask is None
    calibration = detector.calibrate(pictures(20), alpha=0.1)
    assert calibration.images == 20
    assert sum(result.flagged for result in detector.predict(pictures(20))) == 1
    outlined = [result.mask.any() for result in detector.predict(pictures(20))]
    assert sum(outlined) == 1

    detector.save(tmp_path / "mine.safetensors")
    again = Detector.load(tmp_path / "mine.safetensors")
    assert again.threshold == detector.threshold
    assert again.about["dataset"] == "toy"
    again.save(tmp_path / "twice.safetensors")
    assert (tmp_path / "twice.safetensors").read_bytes() == (tmp_path / "mine.safetensors").read_bytes()
    with pytest.raises(KitError, match="needs at least 19 normal images"):
        detector.calibrate(pictures(5))


def test_a_path_of_this_machine_stays_here(tmp_path):
    """Weights from a file: the checkpoint names the path, the saved detector does not."""
    weights, learned = tmp_path / "clip.safetensors", tmp_path / "prompts.safetensors"
    shutil.copy(mini.WEIGHTS / "mini.safetensors", weights)
    clip = load_backbone("mini", weights)
    settings = FeatureSettings(backbone="mini", weights=str(weights), image_size=96, vv_blocks=0)
    save_prompts(learned, FAPrompt(clip.text_tower, ModelSettings(deep_layers=3), 128), clip, settings, {})
    detector = Detector.load(learned)
    assert detector.features.weights == str(weights)
    detector.save(tmp_path / "mine.safetensors")
    elsewhere = weights.rename(tmp_path / "elsewhere.safetensors")
    moved = Detector.load(tmp_path / "mine.safetensors", weights=elsewhere)
    assert moved.features.weights is None
    picture = next(pictures(1))
    assert moved.predict(picture).score == detector.predict(picture).score
    with pytest.raises(KitError, match="no-such-file"):
        Detector.load(tmp_path / "mine.safetensors", weights=tmp_path / "no-such-file")


def test_the_authors_file_loads(detector, tmp_path):
    """A `.pth` in their format, drawn for the tiny CLIP: their mode, the profile's features."""
    state = detector.model.state_dict()
    official = {official_name(name): value for name, value in state.items() if name != "prompts.deep"}
    official["ctx_pos"] = official["ctx_pos"][None, None]
    official["ctx_neg"] = official["ctx_neg"][None]
    official |= {official_name("prompts.deep", i): layer for i, layer in enumerate(state["prompts.deep"])}
    assert set(OFFICIAL_NAMES) >= set(state)
    torch.save({"prompt_learner": official}, tmp_path / "theirs.pth")
    theirs = Detector.load(tmp_path / "theirs.pth", profile="tiny")
    assert theirs.model.settings.mode == "released"
    assert theirs.features == load_profile("tiny").features
    assert 0 < theirs.predict(next(pictures(1))).score < 1


def test_shipped_prompts_and_profiles():
    shipped = Detector.load("released")
    assert shipped.model.settings.mode == "released"
    assert shipped.sigma == load_profile("mini").scoring.sigma
    assert profile_of("mini") == "mini"
    assert profile_of("ViT-B-16") == "paper"
    with pytest.raises(KitError, match="there is no checkpoint at"):
        Detector.load("papr")
    with pytest.raises(KitError, match="unknown device"):
        Detector.load(device="tpu")


def test_a_saved_detector_is_an_ordinary_checkpoint(detector, tmp_path):
    detector.save(tmp_path / "plain.safetensors")
    with safe_open(tmp_path / "plain.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["faprompt"])
    assert KEPT not in header["about"]
