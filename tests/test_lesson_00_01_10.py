"""What notebooks 0, 1 and 10 say, on fresh images; and the functions they ask."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data_prep.mini import benchmark, sets
from fap_lib.clip.attention import attend, attention_weights, project_qkv
from fap_lib.clip.backbone import Backbone
from fap_lib.clip.image_tower import resize_positions
from fap_lib.core import paths
from fap_lib.core.config import load_profile
from fap_lib.data.encoding import encode
from fap_lib.data.features import FeatureCache, features
from fap_lib.data.images import load_image
from fap_lib.data.manifest import Record, read_manifest
from fap_lib.evaluation.baselines import WORDINGS, text_features
from fap_lib.evaluation.calibration import calibrate
from fap_lib.evaluation.patches import attention_lift, auroc, covered, handful
from fap_lib.lessons import prerequisites
from fap_lib.lessons.lesson import Lesson, open_lesson
from fap_lib.lessons.outputs import contents, notebooks
from fap_lib.lessons.probing import ask, by_contrast, contrast
from fap_lib.model import FAPrompt
from fap_lib.pictures.evidence import scores_by_group
from fap_lib.pictures.prompts import maps_beside
from fap_lib.runs.parameters import LessonRun

TEST = replace(sets.SETS["mini-test"], categories=("leather", "cable"), good=20, each=1, train=0)
AUXILIARY = replace(sets.SETS["mini-a"], good=10, each=2, train=0)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lesson]:
    """The shipped prompts, and small draws of the datasets that no notebook uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAP_HOME", str(tmp_path_factory.mktemp("home")))
        for base, entry in (("mini-test", TEST), ("mini-a", AUXILIARY)):
            patch.setitem(sets.SETS, base, entry)
            benchmark.generate(paths.dataset(base), sets.named(base, 8))
        yield open_lesson(LessonRun(data="mini-test", prompts="paper"))


@pytest.fixture(scope="module")
def auxiliary(lesson: Lesson) -> FeatureCache:
    manifest = read_manifest(lesson.cache.root.parent / "mini-a")
    return features(manifest, "test", lesson.backbone, lesson.features)


@pytest.fixture(scope="module")
def crowd(auxiliary: FeatureCache) -> tuple[np.ndarray, torch.Tensor]:
    """Images of anomalous objects (B, H, W, 3), and which of their patches are anomalous (B, N)."""
    few = handful(auxiliary.records, auxiliary.patches.shape[1])
    images = [load_image(auxiliary.root / auxiliary.records[i].image, auxiliary.image_size) for i in few]
    return np.stack(images), covered(auxiliary.masks(np.array(few)), 12)


def judge(lesson: Lesson, images: np.ndarray) -> np.ndarray:
    tower = lesson.backbone.image_tower(lesson.features.image_size, lesson.features.vv_blocks)
    image, patches = map(torch.from_numpy, encode(lesson.backbone, tower, images.astype(np.uint8)))
    with torch.inference_mode():
        return lesson.model(image.float(), patches.float()).score.numpy()


@pytest.fixture(scope="module")
def scores(lesson: Lesson) -> dict[tuple[str, bool], np.ndarray]:
    """Scores by category and whether the images are anomalous."""
    with torch.inference_mode():
        found = lesson.model(*lesson.cache.features(np.arange(len(lesson.cache)))).score.numpy()
    kinds = [(record.category, record.label == 1) for record in lesson.cache.records]
    return {kind: found[[each == kind for each in kinds]] for kind in sorted(set(kinds))}


# Notebook 0


def test_leather_is_told_apart_and_all_cables_look_abnormal(scores):
    def auroc_of(name: str) -> float | None:
        both = [scores[name, False], scores[name, True]]
        return auroc(torch.tensor(np.concatenate(both)), torch.arange(sum(map(len, both))) >= len(both[0]))

    assert auroc_of("leather") > 0.95
    assert 0.3 < auroc_of("cable") < 0.75
    assert scores["cable", False].min() > scores["leather", False].max()


def test_untrained_prompts_tell_nothing_apart(lesson):
    torch.manual_seed(0)
    untrained = FAPrompt(lesson.model.text_tower, lesson.model.settings, lesson.backbone.patch_width)
    names = np.array([record.category for record in lesson.cache.records])
    learned, nothing = [], []
    for values, model in ((learned, lesson.model), (nothing, untrained)):
        found = ask(replace(lesson, model=model))
        for name in ("leather", "cable"):
            own = torch.from_numpy(names == name)
            values.append(auroc(found.prediction.score[own], torch.tensor(found.label)[own] == 1))
    assert abs(np.mean(nothing) - 0.5) < 0.2
    assert np.mean(learned) > np.mean(nothing) + 0.1


def test_the_typical_image_is_the_middle_one():
    anomalous = torch.tensor([[True, False, False]] * 5 + [[False] * 3])
    lift = [0.5, -0.1, 0.2, 0.9, 0.0]
    maps = torch.tensor([[0.1 + value, 0.0, 0.2] for value in lift] + [[9.0, 0, 0]])
    assert contrast(maps, anomalous)[:5].tolist() == pytest.approx(lift)
    ranked = by_contrast(maps, anomalous)
    assert ranked == [1, 4, 2, 0, 3]
    brighter = contrast(maps + 5, anomalous)[:5].tolist()
    assert brighter == pytest.approx(lift, abs=1e-5), "brightening all is no contrast"


def test_pictures_of_the_first_notebook(lesson):
    index, maps = 3, {"static map": torch.rand(144), "anomaly map": torch.rand(96, 96)}
    figure = maps_beside(lesson.cache, index, maps)
    assert [axis.get_title() for axis in figure.axes[1:4]] == ["mask", "static map", "anomaly map"]
    assert all(axis.images[0].get_clim() == (0, 1) for axis in figure.axes[1:4])
    groups, anomalous = np.array(["a", "a", "b"]), np.array([True, False, True])
    figure = scores_by_group(np.array([0.9, 0.1, 0.4]), groups, anomalous)
    drawn = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert drawn["normal"] == [[0.1, -0.17]]
    assert drawn["anomalous"] == [[0.9, 0.17], [0.4, 1.17]]


def test_the_set_up_check_says_what_to_do(home, monkeypatch):
    advice = {check.what: check.advice for check in prerequisites.checks("mini-test")}
    assert list(advice) == ["Python", "packages", "device", "dataset"]
    assert not advice["packages"]
    assert "make demo" in advice["dataset"]
    assert "make setup PYTHON=python3.12" in prerequisites.python((3, 10)).advice
    assert not prerequisites.python((3, 13)).advice
    lock = home / "lock"
    lock.parent.mkdir()
    lines = (
        "torch==0.1",
        "no-such-package==1",
        "nvidia-thing==1",
        "elsewhere==1 ; sys_platform == 'x'",
        "  # a",
    )
    lock.write_text("\n".join(lines))
    monkeypatch.setattr(paths, "LOCK", lock)
    found = prerequisites.packages()
    assert found.found == "1 of 2, 1 of another version"
    assert str(found).startswith("no  packages")
    assert "Missing: no-such-package. Run `make setup`" in found.advice


def test_the_map_of_the_notebooks_names_all():
    lines = contents().splitlines()
    assert len(lines) == 2 + len(notebooks())
    for path, line in zip(notebooks(), lines[2:], strict=True):
        number, title, question, time = (cell.strip() for cell in line.strip("|").split(" | "))
        assert int(number) == int(path.stem.split("_")[0])
        assert title.endswith(f"]({path.name})")
        assert question.endswith("?")
        assert len(time) > 1


# Notebook 1


def test_positions_are_a_map_of_the_plane(lesson):
    toy = torch.tensor([[9.0], [0.0], [1.0], [2.0], [3.0]])
    assert resize_positions(toy, 4)[:5, 0].tolist() == [9, 0, 0.25, 0.75, 1]
    for side in (12, 18):
        places = F.normalize(resize_positions(lesson.backbone.visual.positional_embedding, side)[1:], dim=-1)
        row, column = np.divmod(np.arange(side**2), side)
        apart = np.hypot(row[:, None] - row, column[:, None] - column)
        cosines = (places @ places.T).detach().numpy()
        assert cosines[apart == 1].mean() > cosines[apart > 0.7 * side].mean() + 0.05


def test_tokens_that_enter_a_block_are_the_towers(lesson, crowd):
    backbone = lesson.backbone
    tower, pixels = backbone.image_tower(96, 0), backbone.normalise(crowd[0][:2])
    last = tower.blocks[-1](tower.entering(pixels, len(tower.blocks) - 1))
    tokens = backbone.visual.ln_post(last) @ backbone.visual.proj
    assert torch.allclose(tokens, tower(pixels).tokens, atol=1e-4)


def test_attention_weights_are_those_of_attend(backbone: Backbone):
    block = backbone.visual.transformer.resblocks[0]
    x = torch.randn(2, 5, 128, generator=torch.manual_seed(0))
    q, k, v = project_qkv(block.attn, x)
    weights = attention_weights(q, k)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 2, 5))
    mixed = block.attn.out_proj((weights @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(mixed, attend(block.attn, q, k, v), atol=1e-5)


def test_value_value_attention_stays_with_its_like(lesson, crowd):
    images, bad = crowd
    tower = lesson.backbone.image_tower(96, 0)
    block = tower.blocks[-1]
    x = tower.entering(lesson.backbone.normalise(images), len(tower.blocks) - 1)
    q, k, v = project_qkv(block.attn, block.ln_1(x))
    plain, alike = (attention_lift(attention_weights(*pair), bad) for pair in ((q, k), (v, v)))
    assert plain > 2
    assert alike > 1.7 * plain
    even = torch.full((len(bad), 1, 145, 145), 1 / 145)
    assert attention_lift(even, bad) == pytest.approx(1, abs=1e-5)
    assert attention_lift(even, torch.zeros_like(bad)) is None


def test_words_of_state_know_which_image_and_words_of_looks_know_where(lesson, auxiliary, crowd):
    images, bad = crowd
    tau = load_profile("mini").model.temperature
    texts = {
        name: text_features(lesson.backbone, WORDINGS[name], "object")
        for name in ("one pair", "looks, by an expert")
    }

    def patch_auroc(vv_blocks: int, name: str) -> float:
        tower = lesson.backbone.image_tower(96, vv_blocks)
        patches = torch.from_numpy(encode(lesson.backbone, tower, images)[1]).float()
        found = auroc((patches @ texts[name].T / tau).softmax(-1)[..., 1], bad)
        assert found is not None
        return found

    anomalous = torch.tensor([label == 1 for label in auxiliary.labels])
    image = auxiliary.features(np.arange(len(auxiliary)))[0]
    assert auroc((image @ texts["one pair"].T / tau).softmax(-1)[:, 1], anomalous) > 0.65
    state, looks = ([patch_auroc(count, name) for count in (0, 1, 2)] for name in texts)
    assert state[0] < 0.3
    assert looks[0] > 0.75
    for values in (state, looks):
        assert abs(values[1] - 0.5) < abs(values[0] - 0.5)
        assert (values[2] - 0.5) * (values[0] - 0.5) < 0


def test_maps_of_words_fit_their_own_masks_alone(lesson, crowd):
    images, bad = crowd
    tower = lesson.backbone.image_tower(96, 0)
    patches = torch.from_numpy(encode(lesson.backbone, tower, images)[1]).float()
    for name in ("one pair", "looks, by an expert"):
        values = (patches @ text_features(lesson.backbone, WORDINGS[name], "object").T / 0.07).softmax(-1)[
            ..., 1
        ]
        own, others = (abs(auroc(values, masks) - 0.5) for masks in (bad, bad.roll(1, dims=0)))
        assert own > 0.2
        assert others < own - 0.1


def test_a_handful_is_few_and_from_masks_where_there_are_any():
    bad = [Record(f"{i}", f"m{i}", "a", "cut", 1) for i in range(30)]
    good = [Record(f"g{i}", None, "a", "good", 0) for i in range(30)]
    assert len(handful([*good, *bad], 144)) == 13
    assert min(handful([*good, *bad], 144)) == 30
    assert handful([*good, *bad], 1369) == [30, 45]
    assert handful(good, 1369) == [0, 15]
    assert len(handful(good, 4)) == 16
    assert handful(good[:1], 144) == [0]


def test_auroc_and_coverage():
    values = torch.tensor([[0.1, 0.4], [0.35, 0.8]])
    assert auroc(values, torch.tensor([[False, False], [True, True]])) == 0.75
    assert auroc(values, torch.zeros(2, 2, dtype=torch.bool)) is None
    masks = torch.zeros(1, 20, 20, dtype=torch.bool)
    masks[0, :10, :1] = True  # a tenth of the first of four patches
    masks[0, 10:, 19] = True
    masks[0, 10, 19] = False
    assert covered(masks, 2).tolist() == [[True, False, False, False]]


# Notebook 10


def test_a_threshold_of_another_category_promises_nothing(scores):
    cable, leather = scores["cable", False], scores["leather", False]
    assert calibrate(leather, 0.05).flags(cable).mean() == 1
    assert calibrate(cable, 0.05).flags(leather).mean() == 0
    assert calibrate(leather, 0.05).flags(scores["leather", True]).mean() > 0.7


def test_a_lamp_on_the_left_makes_normal_images_suspicious(lesson):
    paths_ = [
        record.image for record in lesson.cache.records if record.category == "leather" and record.label == 0
    ]
    pixels = np.stack([load_image(lesson.cache.root / path, 96) for path in paths_]).astype(float)
    before = judge(lesson, pixels)
    lamp = judge(lesson, pixels * np.linspace(1, 0.4, 96)[:, None])
    assert calibrate(before, 0.05).flags(lamp).mean() > 0.2
    assert lamp.mean() > 2 * before.mean()
    assert judge(lesson, 0.7 * pixels).mean() < lamp.mean() / 2
